"""Inspection of adapters before a merge: norms, cosine similarities, subspaces, sign conflicts, method previews."""

from prefdelta.merging.inspection.measure import inspect_adapters
from prefdelta.merging.inspection.preview import PREVIEWED
from prefdelta.merging.inspection.results import Inspection

__all__ = ["PREVIEWED", "Inspection", "inspect_adapters"]
