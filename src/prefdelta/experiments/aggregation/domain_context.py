"""What all units of one domain have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.load import Text, text_of
from prefdelta.experiments.preference_pairs import HELD_OUT
from prefdelta.experiments.student import Student
from prefdelta.experiments.unit import Inputs
from prefdelta.pairs.rules import RULES
from prefdelta.recipe import Benchmark, By, Control, Domain, Named, Recipe, Sampling

CONTROL_MERGE = Named(name="average")
"""Controls are merged by plain averaging: they ask what the labels teach, not which merge is best."""

_HELD_OUT = "held-out pairs of "


class DomainContext:
    """A domain's part of a recipe, the names of what it evaluates, and how its units are put together.

    Args:
        name: the domain's name.
        settings: what the recipe says of it.
        recipe: the whole recipe.
        student: the student and where it is found.

    Attributes:
        name: as given.
        settings: as given.
        recipe: as given.
        student: as given.
        deltas: the names of the deltas, in the recipe's order.
        merges: the merge methods with their options, by what each is called.
        methods: what the merge methods are called.
        sources: the models, servers or files of answers that the deltas are between, by label.

    Raises:
        PrefdeltaError: there is nothing to choose the merges by.
    """

    def __init__(self, name: str, settings: Domain, recipe: Recipe, student: Student) -> None:
        self.name = name
        self.settings = settings
        self.recipe = recipe
        self.student = student
        self.deltas = [delta.name for delta in settings.deltas]
        self.merges = {method.called: method for method in recipe.merge.methods}
        self.methods = list(self.merges)
        self.sources = settings.sources
        self._check_choice()

    def control_variants(self, control: Control) -> list[str]:
        """The adapters of one control: one per delta, and their average."""
        return [*(f"{control}.{delta}" for delta in self.deltas), f"{control}.{CONTROL_MERGE.name}"]

    @property
    def control_seeds(self) -> tuple[int, ...]:
        """The training seeds that controls are run with, in the recipe's order."""
        wanted = self.recipe.control_seeds
        return self.recipe.seeds if wanted is None else tuple(seed for seed in self.recipe.seeds if seed in wanted)

    @property
    def controls(self) -> tuple[Control, ...]:
        """The controls that are run."""
        return self.recipe.controls if self.control_seeds else ()

    def scales(self, variant: str) -> tuple[float, ...] | Literal["auto"]:
        """The scales λ that are tried for a variant, or ``auto`` for a search."""
        own = self.merges[variant].scales if variant in self.merges else None
        return own or self.recipe.merge.scales

    @property
    def asked(self) -> tuple[Benchmark, ...]:
        """The benchmarks that have validation items."""
        return tuple(benchmark for benchmark in self.settings.benchmarks if benchmark.validation)

    @property
    def parsed(self) -> tuple[Benchmark, ...]:
        """Those of them whose answers a scorer parses, so that two can be compared without a label."""
        return tuple(
            benchmark
            for benchmark in self.asked
            if benchmark.validation > 1
            and benchmark.lm_eval is None
            and benchmark.pairs is None
            and (benchmark.benchmark is None or benchmark.scorer is not None)
        )

    @property
    def by(self) -> By:
        """What scale and method of the merges are chosen by."""
        return self.recipe.merge.selection.by or ("agreement" if self.parsed else "pairs")

    def _check_choice(self) -> None:
        """Raises PrefdeltaError where there is nothing to choose by."""
        asked_for = f"domain {self.name!r}: merge.selection.by is {self.by!r}, "
        if self.by == "agreement" and not self.parsed:
            raise PrefdeltaError(
                f"{asked_for}but no benchmark has two validation items whose answers a scorer of ours parses; raise "
                "'validation', or choose by pairs or labels."
            )
        if self.by == "labels" and not self.asked:
            raise PrefdeltaError(f"{asked_for}but no benchmark has validation items; raise 'validation'.")

    @property
    def validation_sampling(self) -> Sampling:
        """How validation answers are drawn: as the others, but never greedily where two are to be compared."""
        drawn = self.settings.evaluation_sampling or self.settings.sampling
        if self.by != "agreement" or drawn.temperature > 0:
            return drawn
        return drawn.model_copy(update={"temperature": self.settings.sampling.temperature or 1.0})

    @property
    def pair_count(self) -> int:
        """The most pairs of one delta."""
        several = RULES.find(self.settings.pairing.rule.name).one_by_one
        trained = self.settings.prompts.count - self.settings.held_out
        return trained * (self.settings.sampling.n if several else 1)

    @property
    def text(self) -> Text:
        """The size of an answer to one of the prompts."""
        return text_of(self.settings.prompts, self.settings.sampling, self.settings.search)

    @property
    def held_out(self) -> dict[str, str]:
        """Label -> artifact of every delta whose held-out pairs a benchmark asks about."""
        asked = (benchmark.pairs.held_out for benchmark in self.settings.benchmarks if benchmark.pairs is not None)
        return {f"{_HELD_OUT}{delta}": self.path(f"pairs/{delta}") for delta in asked if delta is not None}

    @staticmethod
    def held_out_files(inputs: Inputs) -> dict[str, Path]:
        """Delta -> its file of held-out pairs, from the inputs that :attr:`held_out` names."""
        return {
            label.removeprefix(_HELD_OUT): artifact.path / HELD_OUT
            for label, artifact in inputs.items()
            if label.startswith(_HELD_OUT)
        }

    @property
    def rank(self) -> int:
        """The largest rank of what is evaluated: merges hold all deltas side by side at most."""
        return self.settings.training.lora.r * len(self.deltas)

    def path(self, name: str) -> str:
        """Where an artifact of this domain is."""
        return f"{self.name}/{name}"
