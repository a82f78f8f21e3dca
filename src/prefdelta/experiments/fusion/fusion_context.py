"""What all units of a fusion have in common."""

from __future__ import annotations

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.load import Text, text_of
from prefdelta.experiments.student import Student
from prefdelta.recipe import labelled
from prefdelta.recipe.fusion import FusionRecipe

SFT = "sft"


def shown_of(prompts: int, share: float) -> int:
    """How many of the prompts the student is fine-tuned on; the others are left for the preference.

    Raises:
        PrefdeltaError: one of the two would have none.
    """
    count = round(share * prompts)
    if not 0 < count < prompts:
        raise PrefdeltaError(
            f"sft_share {share:g} of {prompts} prompts leaves {count} to fine-tune on and {prompts - count} for "
            "the preference; both need some: change sft_share or raise prompts.count."
        )
    return count


class FusionContext:
    """A fusion's recipe, models and sizes.

    Args:
        recipe: what to run.
        student: the student and where it is found.

    Attributes:
        recipe: as given.
        student: as given.
        sources: the source models, servers or files of answers, by label.
    """

    def __init__(self, recipe: FusionRecipe, student: Student) -> None:
        self.recipe = recipe
        self.student = student
        self.sources = labelled(recipe.sources)

    @property
    def shown(self) -> int:
        """How many prompts the student is fine-tuned on."""
        return shown_of(self.recipe.prompts.count, self.recipe.sft_share)

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

    @property
    def text(self) -> Text:
        """The size of an answer to one of the prompts."""
        return text_of(self.recipe.prompts, self.recipe.sampling, self.recipe.search)
