"""The plan of a fusion: sources answer, rewards choose, the student is fine-tuned, answers itself, and learns WRPO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import RenderableType

from prefdelta.pipeline.fusion import answers, evaluation, learning
from prefdelta.pipeline.fusion.publish import publish_fusion
from prefdelta.pipeline.fusion.table import fusion_table
from prefdelta.pipeline.fusion.world import SFT, World
from prefdelta.pipeline.identity import seed_from
from prefdelta.pipeline.plan import Plan
from prefdelta.pipeline.student import STUDENT, Student
from prefdelta.pipeline.unit import Unit
from prefdelta.recipe import ModelRef
from prefdelta.recipe.fusion import FusionRecipe
from prefdelta.store import Artifact, Store


class FusionPlan(Plan):
    """The units of a fusion.

    The student is never changed: fine-tuning makes an adapter, and a preference is trained further from it. So every
    result is one adapter of the student as it came, and the reference of a training is the model that it began at.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        world: recipe, models and sizes.
        units: the units, in order.

    Raises:
        PrefdeltaError: two sources have one name.
    """

    def __init__(self, recipe: FusionRecipe, root: Path) -> None:
        student = Student(recipe.student, root)
        self.world = World(recipe, student)
        self.units = [
            *student.units,
            *self._data(),
            *(unit for seed in recipe.seeds for unit in self._seed(seed)),
            *self._tests(),
        ]

    @property
    def variants(self) -> list[str]:
        """What is evaluated with every seed: the student, after fine-tuning, and after each method."""
        return [STUDENT, SFT, *self.world.recipe.methods]

    def table(self) -> RenderableType:
        """The stages with their sizes, the models, and the memory that training needs."""
        return fusion_table(self.world.recipe, self.units)

    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write the results and the report."""
        return publish_fusion(self.world, store, artifacts)

    def _data(self) -> Iterator[Unit]:
        """What no training seed touches: prompts, the sources' answers and, where asked for, the bare student's."""
        world, recipe = self.world, self.world.recipe
        count = recipe.prompts.count
        yield answers.prompts(world)
        for label in world.sources:
            yield answers.source_responses(world, label)
        for label in world.sources:
            yield answers.scores(world, f"sources/{label}", label, "prompts", count=count)
        if any(method.start == STUDENT for method in recipe.methods.values()):
            yield answers.own_responses(world, STUDENT, "prompts", None, seed=recipe.sampling.seed, count=count)
            yield answers.scores(world, STUDENT, STUDENT, "prompts", count=count)
            yield learning.triples(world, STUDENT, "prompts", count=count)

    def _seed(self, seed: int) -> Iterator[Unit]:
        """One training seed: its division of the prompts, its fine-tuning, its own answers, its methods."""
        world, name, left = self.world, str(seed), f"demonstrations/{seed}"
        yield learning.demonstrations(world, seed)
        yield learning.fine_tuning(world, seed)
        drawn = seed_from(seed, "own")
        yield answers.own_responses(world, name, left, f"adapters/{seed}/{SFT}", seed=drawn, count=world.left)
        yield answers.scores(world, name, SFT, left, count=world.left)
        yield learning.triples(world, name, left, count=world.left)
        for method, settings in world.recipe.methods.items():
            yield learning.preference(world, seed, method, settings)

    def _tests(self) -> Iterator[Unit]:
        world = self.world
        for seed in world.recipe.seeds:
            for variant in self.variants:
                adapter = None if variant == STUDENT else f"adapters/{seed}/{variant}"
                if any(benchmark.validation for benchmark in world.recipe.benchmarks):
                    yield evaluation.of_student(world, "validation", variant, adapter, seed)
                yield evaluation.of_student(world, "test", variant, adapter, seed)
        for label, source in world.sources.items():
            if world.recipe.evaluate_sources and isinstance(source, ModelRef):
                yield evaluation.of_source(world, label, source)
