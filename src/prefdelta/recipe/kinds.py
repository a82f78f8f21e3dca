"""The kinds of recipe: what a whole run can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdelta.core.config import configure
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.recipe.aggregation import Recipe
from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.fusion import FusionRecipe
from prefdelta.recipe.suite import SuiteRecipe

RECIPES: dict[str, type[BaseRecipe]] = {"aggregation": Recipe, "fusion": FusionRecipe, "suite": SuiteRecipe}
"""Kind -> the model of its recipes."""


RECIPE = "recipe.json"
"""The file in which a run keeps its recipe."""


def configure_recipe(raw: Mapping[str, Any], *, origin: str) -> BaseRecipe:
    """Validate a mapping as a recipe of the kind that it names; ``aggregation`` where it names none.

    Raises:
        PrefdeltaError: the kind is unknown, or a key or value is wrong; ``origin`` is named.
    """
    kind = raw.get("kind", "aggregation")
    if not isinstance(kind, str) or kind not in RECIPES:
        raise PrefdeltaError(f"{origin}: unknown kind {kind!r}; {did_you_mean(str(kind), RECIPES)}")
    return configure(RECIPES[kind], raw, origin=origin)
