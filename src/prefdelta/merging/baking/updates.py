"""Where the updates that are baked come from, as rows of the weights they are added to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from prefdelta.adapters import Adapter
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging.baking.report import BakedAdapter
from prefdelta.merging.report import MergeReport

Rows = Callable[[int, int], Tensor]
"""``rows(first, count)``: rows of the scaled update as its weight is stored, float64."""


class Origin(NamedTuple):
    """What the baked update was made of, known when all of it has been baked."""

    adapters: tuple[BakedAdapter, ...]
    scale: float | str
    merge: MergeReport | None


class Updates(Protocol):
    """The updates of a model's modules, one at a time.

    Attributes:
        owner: whose they are, for messages.
        shapes: (d_out, d_in) of every module's ΔW.
        base_model: the model they were made for, as far as it is named.
    """

    owner: str
    shapes: Mapping[str, tuple[int, int]]
    base_model: str | None

    def rows(self, module: str, transposed: bool, scratch: Path) -> AbstractContextManager[Rows]:
        """One module's update, transposed if its weight is; ``scratch`` is a folder for temporary files."""

    def origin(self) -> Origin:
        """What they were made of, after the last module."""


class AdapterUpdates:
    """The updates of one adapter, times λ."""

    def __init__(self, adapter: Adapter, scale: float) -> None:
        self._adapter = adapter
        self._scale = scale
        self.owner = str(adapter.path)
        self.shapes: Mapping[str, tuple[int, int]] = {module: adapter.shape(module) for module in adapter.modules}
        self.base_model = adapter.base_model

    @contextmanager
    def rows(self, module: str, transposed: bool, scratch: Path) -> Iterator[Rows]:
        """One module's update; see :class:`Updates`."""
        yield factor_rows(self._adapter.load(module, torch.float64).scaled(self._scale), transposed)

    def origin(self) -> Origin:
        """The adapter and its scale."""
        adapter = BakedAdapter(name=self._adapter.name, fingerprint=self._adapter.fingerprint)
        return Origin((adapter,), self._scale, None)


def factor_rows(update: LowRank, transposed: bool) -> Rows:
    """Rows of a low-rank update or of its transpose, multiplied out as they are asked for."""
    stored = update.T if transposed else update
    return lambda first, count: LowRank(stored.B[first : first + count], stored.A).dense()
