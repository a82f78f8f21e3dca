"""The plan of a suite: data, backbone, adapters, tuning, merges, tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.estimate import totals
from prefdelta.experiments.plan import Plan
from prefdelta.experiments.suites.adapters import task_adapter
from prefdelta.experiments.suites.backbones import backbone_units
from prefdelta.experiments.suites.merges import merge_units, preference_units
from prefdelta.experiments.suites.publish import publish_suite
from prefdelta.experiments.suites.suite_context import SuiteContext
from prefdelta.experiments.suites.task_data import task_data
from prefdelta.experiments.suites.tuning import references, tuning
from prefdelta.experiments.unit import Unit
from prefdelta.recipe.suite import SuiteRecipe


class SuitePlan(Plan):
    """The units of a suite.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        suite: the recipe and the names of its tasks.
        units: the units, in order.
    """

    def __init__(self, recipe: SuiteRecipe, root: Path) -> None:
        self.suite = SuiteContext(recipe)
        self.units = list(_units(self.suite))

    def table(self) -> RenderableType:
        """The stages with their sizes."""
        table = Table("stage", "units", "optimiser steps", title=f"plan of {self.suite.recipe.name!r}")
        for stage, (count, work) in totals(self.units).items():
            table.add_row(stage, f"{count:,}", f"{work.steps:,}" if work.steps else "-")
        table.add_section()
        table.add_row("all", f"{len(self.units):,}", f"{sum(unit.work.steps for unit in self.units):,}")
        return table

    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write ``results.json``, the table and, with a preference sweep, its picture."""
        return publish_suite(self.suite, store, artifacts)


def _units(suite: SuiteContext) -> Iterator[Unit]:
    """All units, each after its inputs."""
    recipe = suite.recipe
    for task in recipe.tasks:
        yield task_data(suite, task)
    yield from backbone_units(suite)
    for seed in recipe.seeds:
        for task in recipe.tasks:
            yield task_adapter(suite, task.name, seed)
        yield references(suite, seed)
    for method in recipe.methods:
        yield tuning(suite, method)
    for seed in recipe.seeds:
        for method in recipe.methods:
            yield from merge_units(suite, method, seed)
    if recipe.preference is not None:
        yield from preference_units(suite, recipe.preference)
