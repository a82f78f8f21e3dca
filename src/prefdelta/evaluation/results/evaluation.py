"""Results of an evaluation: one model, bare or with an adapter, on benchmarks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.evaluation.results.parts import Interval, Number, Result, Results


class Score(Result):
    """A score in percent of so many items, and how the answers are."""

    score: Number
    n: int
    unparsed: Number
    truncated: Number
    tokens: Number
    measures: dict[str, Interval] | None = Field(
        default=None, description="what else the records tell, each in its own unit: its mean with a 95 % interval"
    )


class EvaluationResults(Results):
    """``results.json`` of ``prefdelta evaluate``."""

    kind: Literal["evaluation"] = "evaluation"
    model: str
    adapter: str | None
    scale: float = Field(description="λ; it matters only with an adapter")
    seed: int = Field(description="of the random numbers of the answers")
    score: Number = Field(description="the mean over the tasks")
    tasks: dict[str, Score]
    doubts: list[str] = Field(description="what speaks against the scores: answers cut off, unreadable or all wrong")
