"""Which plan a recipe of each kind has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefdelta.pipeline.aggregation.plan import AggregationPlan
from prefdelta.pipeline.fusion.plan import FusionPlan
from prefdelta.pipeline.plan import Plan
from prefdelta.pipeline.suite import SuitePlan
from prefdelta.recipe import BaseRecipe

PLANS: dict[str, Callable[[Any, Path], Plan]] = {
    "aggregation": AggregationPlan,
    "fusion": FusionPlan,
    "suite": SuitePlan,
}
"""Kind -> its plan, made from a recipe of that kind and the run directory."""


def plan_for(recipe: BaseRecipe, root: Path) -> Plan:
    """The plan of a recipe in the run directory ``root``."""
    return PLANS[recipe.kind](recipe, root)
