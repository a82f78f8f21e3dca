"""What all units of a fusion have in common."""

from __future__ import annotations

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.identity import file_externals, source_label
from prefdelta.pipeline.student import Student
from prefdelta.pipeline.unit import Externals
from prefdelta.recipe import AnySource
from prefdelta.recipe.fusion import FusionRecipe

SFT = "sft"


class World:
    """A fusion's recipe, models and sizes.

    Args:
        recipe: what to run.
        student: the student and where it is found.

    Attributes:
        recipe: as given.
        student: the student as a Hugging Face model.
        cache: where its reference log-probabilities are kept.
        base: the converted student as an input, if there is one.
        weights: gives what the student's weights contribute to a key.
        sources: the source models, servers or files of answers, by label.

    Raises:
        PrefdeltaError: two sources have one name.
    """

    def __init__(self, recipe: FusionRecipe, student: Student) -> None:
        self.recipe = recipe
        self.student = student.ref
        self.cache = student.cache
        self.base = student.inputs
        self.weights = student.externals
        self.sources: dict[str, AnySource] = {}
        for source in recipe.sources:
            label = source_label(source)
            if label in self.sources:
                raise PrefdeltaError(f"two sources are called {label!r}; rename a folder so that they differ.")
            self.sources[label] = source

    @property
    def shown(self) -> int:
        """How many prompts the student is fine-tuned on."""
        return round(self.recipe.sft_share * self.recipe.prompts.count)

    @property
    def left(self) -> int:
        """How many prompts are left for the preference."""
        return self.recipe.prompts.count - self.shown

    @property
    def answers(self) -> dict[str, str]:
        """All sources' answers and scores, as inputs."""
        return {
            f"{what} of {label}": f"{what}/sources/{label}"
            for label in self.sources
            for what in ("responses", "scores")
        }

    def corpus(self) -> Externals:
        """What the search corpus contributes to a key."""
        return file_externals(self.recipe.search.corpus, "corpus") if self.recipe.search else {}
