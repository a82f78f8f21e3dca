"""Many weak preference signals in, one stronger model out.

The names below are the public API, each usable from a notebook. They are imported when first used, so that
``import prefdelta`` itself costs nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefdelta.core.lazy import lazily

if TYPE_CHECKING:
    from prefdelta.adapters import Adapter, write_adapter
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.evaluation.evaluator import Evaluator
    from prefdelta.experiments.run import run_recipe
    from prefdelta.linalg.lowrank import LowRank
    from prefdelta.merging import METHODS, compare, merge
    from prefdelta.pairs.pairing import make_pairs
    from prefdelta.recipe import load_recipe
    from prefdelta.training import train_delta

# PEFT imports bitsandbytes wherever it is installed, which then warns about kernels that nothing here asks for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

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

__getattr__ = lazily(
    __name__,
    {
        "METHODS": "merging",
        "Adapter": "adapters",
        "Evaluator": "evaluation.evaluator",
        "LowRank": "linalg.lowrank",
        "PrefdeltaError": "core.errors",
        "compare": "merging",
        "load_recipe": "recipe",
        "make_pairs": "pairs.pairing",
        "merge": "merging",
        "run_recipe": "experiments.run",
        "train_delta": "training",
        "write_adapter": "adapters",
    },
)
