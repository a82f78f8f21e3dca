"""Merging adapters: ``merge`` works on folders, a method from ``get_method`` on updates in memory.

What needs torch is imported when it is first used: names and options of methods are checked without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefdelta.core.lazy import lazily
from prefdelta.merging.methods import catalogue  # noqa: F401  (declares the methods)
from prefdelta.merging.registry import METHODS, get_method

if TYPE_CHECKING:
    from prefdelta.merging.engine import merge
    from prefdelta.merging.geometry import compare
    from prefdelta.merging.report import MergeReport

__all__ = ["METHODS", "MergeReport", "compare", "get_method", "merge"]

__getattr__ = lazily(__name__, {"MergeReport": "report", "compare": "geometry", "merge": "engine"})
