"""Preference pairs in, one LoRA adapter out."""

from prefdelta.training.losses import LOSSES, Loss
from prefdelta.training.report import TrainingReport
from prefdelta.training.train import train_delta

__all__ = ["LOSSES", "Loss", "TrainingReport", "train_delta"]
