"""The examples in the docstrings are true."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["data", "loop", "objectives.orpo", "objectives.wrpo", "plan"])
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(f"prefdelta.training.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
