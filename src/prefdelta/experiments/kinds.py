"""Which plan a recipe of each kind has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.aggregation.plan import AggregationPlan
from prefdelta.experiments.checking import checked
from prefdelta.experiments.feasible import check_feasible
from prefdelta.experiments.fusion.plan import FusionPlan
from prefdelta.experiments.plan import Plan
from prefdelta.experiments.sharding import divided
from prefdelta.experiments.suites.plan import SuitePlan
from prefdelta.recipe import BaseRecipe

PLANS: dict[str, Callable[[Any, Path], Plan]] = {
    "aggregation": AggregationPlan,
    "fusion": FusionPlan,
    "suite": SuitePlan,
}
"""Kind -> its plan, made from a recipe of that kind and the run directory."""


def plan_for(recipe: BaseRecipe, root: Path) -> Plan:
    """The plan of a recipe in the run directory ``root``.

    Raises:
        PrefdeltaError: the recipe asks for what cannot be, as :mod:`prefdelta.experiments.checking` tells.
    """
    recipe = checked(recipe)
    check_feasible(recipe)
    plan = PLANS[recipe.kind](recipe, root)
    stages = dict.fromkeys(unit.stage for unit in plan.units)
    if unknown := [stage for stage in recipe.resources if stage not in stages]:
        raise PrefdeltaError(f"resources: there is no stage {unknown[0]!r}; this recipe has {', '.join(stages)}.")
    plan.units = divided(plan.units, recipe)
    return plan
