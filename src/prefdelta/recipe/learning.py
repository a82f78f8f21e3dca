"""How coefficients of a merge are learned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from prefdelta.core.config import Config, Named
from prefdelta.recipe.objectives import unknown_keys_as_options
from prefdelta.recipe.sampling import Sampling

Scalarisation = Literal["smooth-tchebycheff", "smooth-tchebycheff-absolute", "linear"]


class Learning(Config):
    """How coefficients of a merge are learned."""

    steps: int = Field(default=500, gt=0, description="Optimiser steps.")
    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW's, constant.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's.")
    scalarisation: Scalarisation = Field(
        default="smooth-tchebycheff", description="How the tasks' losses become one number."
    )
    alpha: float = Field(default=1.0, gt=0, description="The temperature of the smooth Tchebycheff scalarisation.")
    preference: tuple[float, ...] | None = Field(
        default=None,
        description="One weight per task, in the tasks' order; only the ratios matter. Left out, all are equal.",
    )
    start: float | None = Field(
        default=0.4, description="What every coefficient begins at; `null` looks for the best constant."
    )
    checkpoint_steps: int = Field(default=50, gt=0, description="Optimiser steps between checkpoints.")


class LanguageLearning(Learning):
    """How coefficients of a merge of language models are learned, and from what.

    A key of this section that is none of its own is an option of the objective, as in
    :class:`~prefdelta.recipe.training.Training`. Which objectives and options there are is known to
    :mod:`prefdelta.merging.learned.language`, which checks them when the plan is made.
    """

    objective: Named = Field(
        default=Named(name="dpo"),
        description="A preference loss on pairs, or without labels `entropy` or `null-space`.",
    )
    batch_size: int = Field(default=16, gt=0, description="Rows of a task in a step.")
    micro_batch_size: int = Field(
        default=4, gt=0, description="Rows that the model gets at once; changes memory and speed."
    )
    max_length: int = Field(default=2048, gt=0, description="Tokens of prompt and answer; longer answers are cut.")
    sampling: Sampling = Field(
        default=Sampling(), description="How the adapters' own models answer prompts, where the rows are not given."
    )
    start: float | None = Field(
        default=None,
        description=(
            "What every coefficient begins at; left out, the best constant is looked for with a preference loss, "
            "else 0.4."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _unknown_keys_are_options(cls, given: Any) -> Any:
        return unknown_keys_as_options(cls, given)
