"""What the scale and the method of a merge are chosen by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.core.config import Config

By = Literal["labels", "agreement", "pairs"]
"""Scores of answers against known ones, agreement of two answers without labels, or the loss on preference pairs."""

LEAST_BUDGET = 5
"""λ that a search begins with."""


class Selection(Config):
    """What the scale and the method of a merge are chosen by."""

    by: By | None = Field(
        default=None,
        description=(
            "`agreement` of two sampled answers to each validation question, whose labels are not read; `pairs`, the "
            "loss on the deltas' preference pairs; or `labels`, scores of validation answers. Left out, `agreement` "
            "where a benchmark is scored by a parser of answers and has two validation items or more, else `pairs`."
        ),
    )
    budget: int = Field(
        default=9, ge=LEAST_BUDGET, description="At most how many λ of one variant `scales: auto` tries."
    )
    pairs: int = Field(
        default=50,
        ge=2,
        description="Pairs of each delta that `pairs` reads, the first of those that it was trained on.",
    )
    beta: float = Field(default=0.5, gt=0, description="β of the loss on pairs.")
