"""Baking an adapter, or a merge of several, into the base model, and measuring what rounding takes away."""

from prefdelta.merging.baking.apply import apply_adapter, apply_merge
from prefdelta.merging.baking.report import ApplyReport

__all__ = ["ApplyReport", "apply_adapter", "apply_merge"]
