"""Running a plan: make what is missing, skip what is there, show how far it is."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.display import Display
from prefdelta.pipeline.kinds import plan_for
from prefdelta.pipeline.making import execute
from prefdelta.pipeline.unit import Workbench
from prefdelta.pipeline.workers import execute_on_workers
from prefdelta.recipe import BaseRecipe, configure_recipe
from prefdelta.records import digest
from prefdelta.store import Store, write_json

RECIPE = "recipe.json"


def run_recipe(recipe: BaseRecipe, root: Path, *, console: Console | None = None, workers: int = 1) -> Path:
    """Run a recipe from prompts to report; continue where an earlier run of it stopped.

    Args:
        recipe: what to run.
        root: the run directory. Finished artifacts in it whose inputs and settings are unchanged are kept.
        console: where progress is shown; nothing is shown if it is ``None``.
        workers: how many processes share the work, each on a GPU of its own where there are any; with 1, this one
            does it all. They import the calling script, which must start nothing when it is imported.

    Returns:
        The path of ``report.html``; ``results.json`` lies beside it.

    Raises:
        PrefdeltaError: the recipe asks for something that is not there, a stage refuses its input, or another process
            is at work in ``root``.
    """
    plan = plan_for(recipe, root)
    store = Store(root)
    with store.locked():
        write_json(root / RECIPE, recipe.model_dump(mode="json"))
        store.log(event="started", recipe=recipe.name, plan=digest([unit.name for unit in plan.units]))
        with Display(console, len(plan.units), workers) as display:
            if workers > 1:
                artifacts = execute_on_workers(recipe, root, plan.units, workers, display)
            else:
                artifacts = execute(plan.units, store, Workbench(display.inner), display)
        report = plan.publish(store, artifacts)
        store.log(event="finished", recipe=recipe.name)
    return report


def publish_again(root: Path) -> Path:
    """Write the results and the report of a finished run again, from its folder alone.

    Raises:
        PrefdeltaError: the folder holds no run, or one that is not finished.
    """
    try:
        raw = json.loads((root / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"{root} is not the folder of a run: it has no readable {RECIPE}.") from error
    plan = plan_for(configure_recipe(raw, origin=str(root / RECIPE)), root)
    store = Store(root)
    artifacts = {unit.name: store.get(unit.name) for unit in plan.units}
    missing = [name for name, artifact in artifacts.items() if artifact is None]
    if missing:
        raise PrefdeltaError(f"the run in {root} is not finished ({missing[0]} is missing); run its recipe again.")
    return plan.publish(store, {name: artifact for name, artifact in artifacts.items() if artifact})
