"""Preference pairs, triples or demonstrations in, LoRA adapters out.

What trains, and PEFT and the trainer with it, is imported when it is first used: plans and evaluations read rows and
score them without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdelta.core.lazy import lazily

if TYPE_CHECKING:
    from prefdelta.training.data import joint_pairs
    from prefdelta.training.objectives import OBJECTIVES
    from prefdelta.training.together import Delta, train_together
    from prefdelta.training.train import TrainingReport, train_delta

__all__ = [
    "OBJECTIVES",
    "Delta",
    "TrainingReport",
    "joint_pairs",
    "train_delta",
    "train_together",
]

__getattr__ = lazily(
    __name__,
    {
        "OBJECTIVES": "objectives",
        "Delta": "together",
        "TrainingReport": "train",
        "joint_pairs": "data",
        "train_delta": "train",
        "train_together": "together",
    },
)
