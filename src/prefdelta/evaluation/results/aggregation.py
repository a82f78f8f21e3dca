"""Results of an aggregation: weak preference signals, one adapter each, merged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefdelta.evaluation.results.parts import Guard, Interval, Number, Result, RunResults
from prefdelta.recipe import By

VariantKind = Literal["student", "weak", "single", "merge", "baseline", "control"]


class Best(Result):
    """A model that stands for a run; ``name`` lists the domains."""

    name: str
    score: Number


class BestVariant(Best):
    """A model that stands for a domain."""

    variant: str = Field(description="its key in methods")
    scale: float | None


class Summary(Result):
    """The result of a run: means over its domains."""

    student: Number
    best_single: Best
    best_merge: Best
    gain_over_best_single: Interval
    gain_over_student: Interval


class DomainSummary(Summary):
    """The result of a domain."""

    best_single: BestVariant
    best_merge: BestVariant
    labelled_merge: BestVariant | None = Field(
        default=None, description="the merge that labels would have chosen, where they did not choose"
    )
    over_labelled_merge: Interval | None = None


class ScaleGrid(Result):
    """What was measured by name and scale, and what it chose."""

    by: By = Field(default="labels", description="what a score is, and what chose")
    scores: dict[str, dict[str, Number]] = Field(
        description="labels: validation score in percent; agreement: information in points; pairs: minus the mean loss"
    )
    best_scale: dict[str, float]
    at_edge: list[str]
    ranges: dict[str, tuple[float, float]] = Field(
        default={}, description="neighbouring scales that the items cannot tell from the best one, first and last"
    )
    flat: list[str] = Field(default=[], description="names of which the items cannot tell any scale from the best")
    unparsed: dict[str, dict[str, Number]] | None = Field(
        default=None, description="percentage of the answers in which the scorer found none"
    )


class DomainSelection(ScaleGrid):
    """What was chosen among the merges, and among the single deltas."""

    split: Literal["validation"] = "validation"
    best_merge: str
    ties: list[str] = Field(default=[], description="other merges that the items cannot tell from the best")
    singles: ScaleGrid | None = None
    labelled: ScaleGrid | None = Field(
        default=None, description="what labels say of the same merges at the same scales"
    )
    guard: Guard | None = None


class Compared(Result):
    """A score beside the student's and the best single delta's; ``n`` items."""

    score: Number
    n: int
    vs_student: Interval | None
    vs_best_single: Interval | None
    changed: Number | None = Field(
        default=None, description="percentage of the answers that are another than the student's to the same item"
    )


class TaskCompared(Compared):
    """The same of one task, and how its answers are."""

    unparsed: Number
    truncated: Number
    tokens: Number
    measures: dict[str, Interval] | None = None


class VariantResult(Result):
    """One model that was evaluated."""

    kind: VariantKind
    source: str
    scale: float | None
    tuned: bool
    norm: Number | None
    norm_ratio_to_average: Number | None
    cosine_to_average: Number | None
    average: Compared
    tasks: dict[str, TaskCompared]


class Watched(Result):
    """One measure of a task that was watched."""

    student: Number
    merge: Number
    change: Interval
    caused_by: dict[str, Interval]


class Domain(Result):
    """One domain of an aggregation."""

    summary: DomainSummary
    tasks: list[str]
    selection: DomainSelection
    methods: dict[str, VariantResult]
    watch: dict[str, dict[str, Watched]] | None = None
    behaviours: dict[str, dict[str, Number]] | None = None


class AggregationResults(RunResults):
    """``results.json`` of an aggregation."""

    kind: Literal["aggregation"] = "aggregation"
    summary: Summary
    domains: dict[str, Domain]
