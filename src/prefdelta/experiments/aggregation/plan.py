"""The plan of an aggregation: the units of each domain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.aggregation.domain import domain_units
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.publish import publish
from prefdelta.experiments.aggregation.validation import choice_line
from prefdelta.experiments.estimate import TrainingMemory, training_memory
from prefdelta.experiments.plan import Plan
from prefdelta.experiments.plan_tables import overview
from prefdelta.experiments.student import Student
from prefdelta.recipe import AnySource, Recipe
from prefdelta.training.plan import count_steps, faint


class AggregationPlan(Plan):
    """The units of an aggregation.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        recipe: as given.
        domains: what the units of each domain have in common, by the domain's name.
        units: the units, in order.
    """

    def __init__(self, recipe: Recipe, root: Path) -> None:
        self.recipe = recipe
        student = Student(recipe.student, root)
        self.domains = {name: DomainContext(name, domain, recipe, student) for name, domain in recipe.domains.items()}
        self.units = [*student.units, *(unit for domain in self.domains.values() for unit in domain_units(domain))]

    def table(self) -> RenderableType:
        """The stages with their sizes, the models, and the memory that training needs."""
        recipe = self.recipe
        domains = recipe.domains.values()
        others: list[AnySource | None] = [source for domain in domains for source in domain.sources.values()]
        others += [domain.scoring.model for domain in domains if domain.scoring is not None]
        trainings = [domain.training for domain in domains]
        return Group(
            *overview(recipe.name, self.units, recipe.student, others, trainings, self.memory),
            *(Text(choice_line(domain)) for domain in self.domains.values()),
            *(Text(f"warning: {sentence}", style="yellow") for sentence in self.warnings),
        )

    @property
    def memory(self) -> list[TrainingMemory | None]:
        """Of the training of each domain."""
        return [
            training_memory(self.recipe.student, domain.training, len(domain.deltas) if domain.training.together else 1)
            for domain in self.recipe.domains.values()
        ]

    @property
    def warnings(self) -> list[str]:
        """Domains whose trainings are too short to be felt."""
        found = []
        for name, domain in self.domains.items():
            training = domain.settings.training
            if sentence := faint(count_steps(domain.pair_count, training), training):
                found.append(f"{name}: {sentence}")
        return found

    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write the results, the report, the picture and the merged adapters."""
        return publish(self.recipe, self.domains, store, artifacts)
