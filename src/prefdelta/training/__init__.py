"""Preference pairs, triples or demonstrations in, one LoRA adapter out."""

from prefdelta.training.joint import joint_pairs
from prefdelta.training.objectives import OBJECTIVES, Loss, Objective
from prefdelta.training.report import TrainingReport
from prefdelta.training.train import train_delta

__all__ = ["OBJECTIVES", "Loss", "Objective", "TrainingReport", "joint_pairs", "train_delta"]
