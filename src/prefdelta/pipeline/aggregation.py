"""The plan of an aggregation: one way through per domain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rich.console import RenderableType

from prefdelta.pipeline import stages
from prefdelta.pipeline.describe import plan_table
from prefdelta.pipeline.domain import STUDENT, DomainPlan
from prefdelta.pipeline.identity import path_digest
from prefdelta.pipeline.plan import Plan
from prefdelta.pipeline.publish import publish
from prefdelta.pipeline.unit import Unit
from prefdelta.recipe import ModelRef, Recipe
from prefdelta.store import Artifact, Store


class AggregationPlan(Plan):
    """The units of one recipe, in an order in which every unit finds its inputs made.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        student: the student as a Hugging Face model, wherever the recipe has it from.
        cache: where reference log-probabilities are kept; not an artifact, it may be deleted at any time.
        domains: the plan of each domain.
        units: the units, in order.
    """

    def __init__(self, recipe: Recipe, root: Path) -> None:
        self.recipe = recipe
        self.student = recipe.student
        self.cache = root / ".cache" / "reference"
        self.domains: dict[str, DomainPlan] = {}
        self.units: list[Unit] = []
        if recipe.student.format != "huggingface":
            self.units.append(student_conversion(recipe.student))
            self.student = ModelRef(path=str(root / STUDENT / "model"), dtype=recipe.student.dtype)
        for name, domain in recipe.domains.items():
            self.domains[name] = DomainPlan(name, domain, recipe, self.student, self.cache)
            self.units.extend(self.domains[name].units())

    def table(self) -> RenderableType:
        """The stages with their sizes, the models, and the memory that training needs."""
        return plan_table(self)

    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write the results, the report, the picture and the merged adapters."""
        return publish(self, store, artifacts)


def student_conversion(student: ModelRef) -> Unit:
    """The unit that makes a Hugging Face model of a student in another format."""
    return Unit(
        name=STUDENT,
        stage="convert",
        config={"format": student.format},
        inputs={},
        externals={"checkpoint": partial(path_digest, student.path)},
        make=lambda work, inputs, bench: stages.convert_student(work, student),
    )
