"""Baking an adapter into its base model, and measuring what rounding to the model's type takes away."""

from prefdelta.apply.bake import apply_adapter
from prefdelta.apply.report import ApplyReport, print_apply
from prefdelta.apply.rounding import RoundingLoss

__all__ = ["ApplyReport", "RoundingLoss", "apply_adapter", "print_apply"]
