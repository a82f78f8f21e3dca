"""Merging adapters: ``merge`` works on folders, a method from ``get_method`` on updates in memory."""

from prefdelta.merging import (  # noqa: F401  (importing a family registers its methods)
    average,
    combined,
    gam,
    iso,
    lego,
    pico,
    regmean,
    robustmerge,
    spherical,
    sums,
    tsv,
)
from prefdelta.merging.engine import merge
from prefdelta.merging.geometry import Geometry, compare
from prefdelta.merging.registry import METHODS, Method, get_method
from prefdelta.merging.report import MergeReport

__all__ = ["METHODS", "Geometry", "MergeReport", "Method", "compare", "get_method", "merge"]
