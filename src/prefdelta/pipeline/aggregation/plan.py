"""The plan of an aggregation: one way through per domain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import RenderableType

from prefdelta.pipeline.aggregation.domain import domain_units
from prefdelta.pipeline.aggregation.publish import publish
from prefdelta.pipeline.aggregation.table import plan_table
from prefdelta.pipeline.aggregation.world import World
from prefdelta.pipeline.plan import Plan
from prefdelta.pipeline.student import Student
from prefdelta.recipe import Recipe
from prefdelta.store import Artifact, Store


class AggregationPlan(Plan):
    """The units of an aggregation.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        recipe: as given.
        worlds: what the units of each domain have in common, by the domain's name.
        units: the units, in order.

    Raises:
        PrefdeltaError: two different models of a domain have one name.
    """

    def __init__(self, recipe: Recipe, root: Path) -> None:
        self.recipe = recipe
        student = Student(recipe.student, root)
        self.worlds = {name: World(name, domain, recipe, student) for name, domain in recipe.domains.items()}
        self.units = [*student.units, *(unit for world in self.worlds.values() for unit in domain_units(world))]

    def table(self) -> RenderableType:
        """The stages with their sizes, the models, and the memory that training needs."""
        return plan_table(self.recipe, self.units)

    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write the results, the report, the picture and the merged adapters."""
        return publish(self.recipe, self.worlds, store, artifacts)
