"""Results of a judged comparison, ``judged.json``: answers that a judge compared or graded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from prefdelta.evaluation.results.parts import Results


class JudgedResults(Results):
    """``judged.json`` of ``prefdelta judge``. Its numbers are not rounded."""

    kind: Literal["judged"] = "judged"
    benchmark: Literal["alpaca", "arena", "mtbench", "pairwise"]
    model: str
    opponent: str | None = Field(default=None, description="whose answers the model's were compared with")
    judge: str
    counts: dict[str, int] = Field(description="what became of the questions")
    scores: dict[str, JsonValue] = Field(description="each benchmark has its own; docs/judging.md explains them")
    refused: dict[str, str] = Field(description="why the judge gave no reply, by kind of failure")
    fields: dict[str, str] = Field(description="fields of a request that the judge does not take")
    malformed: list[str] = Field(description="rows of the files that could not be read")
