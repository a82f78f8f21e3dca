"""What the views of all finished runs have in common: the recipe, what was made, how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.store import Artifact, Store
from prefdelta.evaluation.results import AggregationResults, FusionResults, SuiteResults
from prefdelta.recipe import RECIPE, BaseRecipe, configure_recipe
from prefdelta.report.viewer.commands import command_line
from prefdelta.report.viewer.process import collect_process
from prefdelta.report.viewer.view import RunView

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


def made(store: Store, name: str) -> Artifact:
    """An artifact of a finished run.

    Raises:
        PrefdeltaError: it is missing or damaged.
    """
    if (found := store.get(name)) is None:
        raise PrefdeltaError(f"{store.root / name} is missing; run the recipe again.")
    return found


def run_view(
    root: Path, recipe: BaseRecipe, results: AggregationResults | FusionResults | SuiteResults, **shown: Any
) -> RunView:
    """The view of a finished run; ``shown`` is what its kind has to show."""
    return RunView(
        name=recipe.name,
        results=results,
        seeds=results.seeds,
        command=command_line(["run", "recipe.yaml", "-o", f"runs/{recipe.name}"]),
        settings=recipe,
        process=collect_process(root),
        reads=[root],
        **{"description": recipe.description, **shown},
    )
