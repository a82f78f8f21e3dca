"""How coefficients of a merge are learned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.recipe.config import Config
from prefdelta.recipe.sampling import Sampling

Scalarisation = Literal["smooth-tchebycheff", "smooth-tchebycheff-absolute", "linear"]
LanguageObjective = Literal["dpo", "dpo-norm", "ipo", "apo-zero", "apo-down", "simpo", "orpo", "entropy", "null-space"]


class Learning(Config):
    """How coefficients of a merge are learned.

    ``preference`` is one weight per task, in the tasks' order (equal if left out; only the ratios matter), ``alpha``
    the temperature of the smooth Tchebycheff scalarisation. ``start`` is what every coefficient begins at.
    """

    steps: int = Field(default=500, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    scalarisation: Scalarisation = "smooth-tchebycheff"
    alpha: float = Field(default=1.0, gt=0)
    preference: tuple[float, ...] | None = None
    start: float = 0.4
    checkpoint_steps: int = Field(default=50, gt=0)


class LanguageLearning(Learning):
    """How coefficients of a merge of language models are learned, and from what.

    ``objective`` is a preference loss on pairs, or one that needs no labels: ``entropy`` of the tokens of given
    answers, or the ``null-space`` ratio of a task's own adapter. ``beta`` is the loss's own option (its usual default
    if left out), ``batch_size`` the rows of a task in a step, ``micro_batch_size`` how many the model gets at once.
    ``sampling`` is how the adapters' own models answer prompts, where the rows are not given.
    """

    objective: LanguageObjective = "dpo"
    beta: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=16, gt=0)
    micro_batch_size: int = Field(default=4, gt=0)
    max_length: int = Field(default=2048, gt=0)
    sampling: Sampling = Sampling()
