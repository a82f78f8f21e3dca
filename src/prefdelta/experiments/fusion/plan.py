"""The plan of a fusion: sources answer, rewards choose, the student is fine-tuned, answers itself, and learns WRPO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from prefdelta.core.store import Artifact, Store
from prefdelta.experiments.answers import prompts_unit, responses_unit, scores_unit
from prefdelta.experiments.estimate import TrainingMemory, training_memory
from prefdelta.experiments.fusion import evaluation, learning
from prefdelta.experiments.fusion.answers import own_responses
from prefdelta.experiments.fusion.fusion_context import SFT, FusionContext
from prefdelta.experiments.fusion.publish import publish_fusion
from prefdelta.experiments.identity import seed_from
from prefdelta.experiments.plan import Plan
from prefdelta.experiments.plan_tables import overview
from prefdelta.experiments.student import STUDENT, Student
from prefdelta.experiments.unit import Unit
from prefdelta.recipe import ModelRef, Training
from prefdelta.recipe.fusion import FusionRecipe


class FusionPlan(Plan):
    """The units of a fusion.

    The student is never changed: fine-tuning makes an adapter, and a preference is trained further from it. So every
    result is one adapter of the student as it came, and the reference of a training is the model that it began at.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        fusion: recipe, models and sizes.
        units: the units, in order.
    """

    def __init__(self, recipe: FusionRecipe, root: Path) -> None:
        student = Student(recipe.student, root)
        self.fusion = FusionContext(recipe, student)
        self.units = [
            *student.units,
            *self._data(),
            *(unit for seed in recipe.seeds for unit in self._seed(seed)),
            *self._tests(),
        ]

    @property
    def variants(self) -> list[str]:
        """What is evaluated with every seed: the student, after fine-tuning, and after each method."""
        return [STUDENT, SFT, *self.fusion.recipe.methods]

    def table(self) -> RenderableType:
        """The stages with their sizes, the models, and the memory that training needs.

        Optimiser steps are an upper bound: prompts without a triple are not trained on.
        """
        recipe = self.fusion.recipe
        others = [*recipe.sources, recipe.scoring.model]
        return Group(
            *overview(recipe.name, self.units, recipe.student, others, self._trainings, self.memory),
            Text("Steps are the most there can be: a prompt whose answers make no triple is left out."),
        )

    @property
    def memory(self) -> list[TrainingMemory | None]:
        """Of the fine-tuning, and of each method."""
        return [training_memory(self.fusion.recipe.student, training) for training in self._trainings]

    @property
    def _trainings(self) -> list[Training]:
        recipe = self.fusion.recipe
        return [recipe.sft, *(method.training for method in recipe.methods.values())]

    def publish(self, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
        """Write the results and the report."""
        return publish_fusion(self.fusion, store, artifacts)

    def _data(self) -> Iterator[Unit]:
        """What no training seed touches: prompts, the sources' answers and, where asked for, the bare student's."""
        fusion, recipe = self.fusion, self.fusion.recipe
        count = recipe.prompts.count
        yield prompts_unit("prompts", recipe.prompts, recipe.search)
        for label, source in fusion.sources.items():
            yield responses_unit(
                f"responses/sources/{label}",
                source,
                recipe.sampling,
                recipe.search,
                questions=recipe.prompts,
                prompts="prompts",
            )
        for label in fusion.sources:
            yield self._scores(f"sources/{label}", label, "prompts", count)
        if any(method.start == STUDENT for method in recipe.methods.values()):
            yield own_responses(fusion, STUDENT, "prompts", None, seed=recipe.sampling.seed, count=count)
            yield self._scores(STUDENT, STUDENT, "prompts", count)
            yield learning.triples(fusion, STUDENT, "prompts", count=count)

    def _seed(self, seed: int) -> Iterator[Unit]:
        """One training seed: its division of the prompts, its fine-tuning, its own answers, its methods."""
        fusion, name, left = self.fusion, str(seed), f"demonstrations/{seed}"
        yield learning.demonstrations(fusion, seed)
        yield learning.fine_tuning(fusion, seed)
        drawn = seed_from(seed, "own")
        yield own_responses(fusion, name, left, f"adapters/{seed}/{SFT}", seed=drawn, count=fusion.left)
        yield self._scores(name, SFT, left, fusion.left)
        yield learning.triples(fusion, name, left, count=fusion.left)
        for method, settings in fusion.recipe.methods.items():
            yield learning.preference(fusion, seed, method, settings)

    def _scores(self, name: str, label: str, prompts: str, count: int) -> Unit:
        """The scores of ``responses/NAME``, which ``label`` gave to ``count`` prompts."""
        recipe = self.fusion.recipe
        return scores_unit(
            f"scores/{name}",
            recipe.scoring,
            label,
            prompts=prompts,
            responses=f"responses/{name}",
            count=count * recipe.sampling.n,
            text=self.fusion.text,
        )

    def _tests(self) -> Iterator[Unit]:
        fusion = self.fusion
        for seed in fusion.recipe.seeds:
            for variant in self.variants:
                adapter = None if variant == STUDENT else f"adapters/{seed}/{variant}"
                if any(benchmark.validation for benchmark in fusion.recipe.benchmarks):
                    yield evaluation.of_student(fusion, "validation", variant, adapter, seed)
                yield evaluation.of_student(fusion, "test", variant, adapter, seed)
        for label, source in fusion.sources.items():
            if fusion.recipe.evaluate_sources and isinstance(source, ModelRef):
                yield evaluation.of_source(fusion, label, source)
