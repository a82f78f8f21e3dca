"""Baking an adapter, or a merge of several, into the base model, and measuring what rounding takes away."""

from prefdelta.apply.merged import apply_merge
from prefdelta.apply.report import ApplyReport, print_apply
from prefdelta.apply.rounding import RoundingLoss
from prefdelta.apply.single import apply_adapter

__all__ = ["ApplyReport", "RoundingLoss", "apply_adapter", "apply_merge", "print_apply"]
