"""What all units of one domain have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.identity import file_externals, source_label
from prefdelta.pipeline.student import Student
from prefdelta.pipeline.unit import Externals, Make, Unit, Work, stage_unit
from prefdelta.recipe import AnySource, Control, Domain, Recipe

CONTROL_MERGE = "average"
"""Controls are merged by plain averaging: they ask what the labels teach, not which merge is best."""


class World:
    """A domain's part of a recipe, the names of what it evaluates, and how its units are put together.

    Args:
        name: the domain's name.
        domain: what the recipe says of it.
        recipe: the whole recipe.
        student: the student and where it is found.

    Attributes:
        name: as given.
        domain: as given.
        recipe: as given.
        student: the student as a Hugging Face model.
        cache: where its reference log-probabilities are kept.
        base: the converted student as an input, if there is one.
        weights: gives what the student's weights contribute to a key.
        deltas: the names of the deltas, in the recipe's order.
        methods: the merge methods.
        sources: the models, servers or files of answers that the deltas are between, by label.

    Raises:
        PrefdeltaError: two different models have one name.
    """

    def __init__(self, name: str, domain: Domain, recipe: Recipe, student: Student) -> None:
        self.name = name
        self.domain = domain
        self.recipe = recipe
        self.student = student.ref
        self.cache = student.cache
        self.base = student.inputs
        self.weights = student.externals
        self.deltas = [delta.name for delta in domain.deltas]
        self.methods = list(recipe.merge.methods)
        self.sources = _sources(name, domain)

    def control_variants(self, control: Control) -> list[str]:
        """The adapters of one control: one per delta, and their average."""
        return [*(f"{control}.{delta}" for delta in self.deltas), f"{control}.{CONTROL_MERGE}"]

    def controls(self, seed: int) -> tuple[Control, ...]:
        """The controls that are run with this training seed."""
        seeds = self.recipe.seeds if self.recipe.control_seeds is None else self.recipe.control_seeds
        return self.recipe.controls if seed in seeds else ()

    @property
    def pair_count(self) -> int:
        """The most pairs of one delta."""
        several = self.domain.pairing.rule in ("order", "score")
        return self.domain.prompts.count * (self.domain.sampling.n if several else 1)

    def path(self, name: str) -> str:
        """Where an artifact of this domain lies."""
        return f"{self.name}/{name}"

    def corpus(self) -> Externals:
        """What the search corpus contributes to a key."""
        return file_externals(self.domain.search.corpus, "corpus") if self.domain.search else {}

    def unit(
        self,
        name: str,
        *,
        config: Any,
        make: Make,
        inputs: Mapping[str, str] | None = None,
        externals: Externals | None = None,
        work: Work | None = None,
    ) -> Unit:
        """A unit of this domain; the first part of its name is its stage."""
        return stage_unit(name, config=config, make=make, inputs=inputs, externals=externals, work=work, root=self.name)


def labelled(*sources: AnySource) -> list[tuple[str, AnySource]]:
    """Sources with their labels."""
    return [(source_label(source), source) for source in sources]


def _sources(name: str, domain: Domain) -> dict[str, AnySource]:
    sources: dict[str, AnySource] = {}
    for delta in domain.deltas:
        for label, source in labelled(delta.weak, delta.weaker):
            if sources.setdefault(label, source) != source:
                raise PrefdeltaError(
                    f"domain {name!r} has two different models called {label!r}; rename one folder so that they differ."
                )
    return sources
