"""Preference pairs, triples or demonstrations in, LoRA adapters out."""

from prefdelta.training.data import joint_pairs
from prefdelta.training.objectives import OBJECTIVES, Loss, Objective
from prefdelta.training.together import Delta, train_together
from prefdelta.training.train import TrainingReport, train_delta

__all__ = [
    "OBJECTIVES",
    "Delta",
    "Loss",
    "Objective",
    "TrainingReport",
    "joint_pairs",
    "train_delta",
    "train_together",
]
