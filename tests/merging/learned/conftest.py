"""Tiny models of every kind, each with two adapters of unequal ranks that do not adapt quite the same modules."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import nn

from prefdelta.adapters import Adapter
from tiny_tasks import KINDS, Kind, make_adapters


@dataclass(frozen=True)
class Case:
    kind: Kind
    model: nn.Module
    adapters: list[Adapter]


@pytest.fixture(scope="session", params=sorted(KINDS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Each kind of model in turn."""
    kind = KINDS[request.param]
    return Case(kind, kind.model(), make_adapters(kind, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The image classifier with three adapters."""
    kind = KINDS["vit"]
    return Case(kind, kind.model(), make_adapters(kind, tmp_path_factory.mktemp("vit3"), ranks=(2, 3, 2)))
