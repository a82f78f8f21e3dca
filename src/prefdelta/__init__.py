"""Many weak preference signals in, one stronger model out.

The names below are the public API, each usable from a notebook. They are imported when first used, so that
``import prefdelta`` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefdelta.adapter import Adapter, write_adapter
    from prefdelta.errors import PrefdeltaError
    from prefdelta.evaluation.evaluator import Evaluator
    from prefdelta.lowrank import LowRank
    from prefdelta.merging import METHODS, compare, merge
    from prefdelta.pairs.pairing import make_pairs
    from prefdelta.pipeline.run import run_recipe
    from prefdelta.recipe import load_recipe
    from prefdelta.training import train_delta

__all__ = [
    "METHODS",
    "Adapter",
    "Evaluator",
    "LowRank",
    "PrefdeltaError",
    "compare",
    "load_recipe",
    "make_pairs",
    "merge",
    "run_recipe",
    "train_delta",
    "write_adapter",
]

_HOMES = {
    "METHODS": "merging",
    "Adapter": "adapter",
    "Evaluator": "evaluation.evaluator",
    "LowRank": "lowrank",
    "PrefdeltaError": "errors",
    "compare": "merging",
    "load_recipe": "recipe",
    "make_pairs": "pairs.pairing",
    "merge": "merging",
    "run_recipe": "pipeline.run",
    "train_delta": "training",
    "write_adapter": "adapter",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prefdelta' has no attribute {name!r}")
    return getattr(import_module(f"prefdelta.{_HOMES[name]}"), name)
