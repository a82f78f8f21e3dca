"""The recipe of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import RECIPE, BaseRecipe, configure_recipe

T = TypeVar("T", bound=BaseRecipe)


def read_recipe(root: Path, kind: type[T]) -> T:
    """The recipe that a run folder was made from.

    Raises:
        PrefdeltaError: it cannot be read, or is of another kind than the results beside it.
    """
    path = root / RECIPE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"{path} cannot be read ({error}); run the recipe again.") from error
    recipe = configure_recipe(raw, origin=str(path))
    if not isinstance(recipe, kind):
        raise PrefdeltaError(f"{path} is of another kind than the results beside it; run the recipe again.")
    return recipe
