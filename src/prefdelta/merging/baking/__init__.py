"""Baking an adapter, or a merge of several, into the base model, and measuring what rounding takes away."""

from prefdelta.merging.baking.merged import apply_merge
from prefdelta.merging.baking.report import ApplyReport
from prefdelta.merging.baking.single import apply_adapter

__all__ = ["ApplyReport", "apply_adapter", "apply_merge"]
