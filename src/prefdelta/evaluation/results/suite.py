"""Results of a suite: one adapter a task, many merge methods, normalised accuracies."""

from __future__ import annotations

from typing import Literal

from prefdelta.evaluation.results.parts import Interval, Number, Result, RunResults


class SuiteScores(Result):
    """The mean over tasks and each task."""

    mean: Interval
    tasks: dict[str, Interval]


class SuiteMethod(SuiteScores):
    """One method: shares of the own adapter's accuracy, plain accuracies, and what it was set to."""

    accuracy: dict[str, Interval]
    joint: dict[str, Interval] | None = None
    unseen: SuiteScores | None = None
    setting: str | None = None
    edge: str | None = None
    validation: Number | None = None
    coefficients: int | None = None


class SweepPoint(Result):
    """One weight of a preference sweep."""

    weight: float
    task: Number
    others: Number
    accuracy: dict[str, Number]


class PreferenceSweep(Result):
    """What one task gains and the others lose as its weight grows."""

    method: str
    task: str
    points: list[SweepPoint]


class SuiteResults(RunResults):
    """``results.json`` of a suite."""

    kind: Literal["suite"] = "suite"
    tasks: list[str]
    unseen_tasks: list[str]
    budget: int
    single: dict[str, Number]
    test_items: dict[str, int]
    classes: dict[str, int]
    methods: dict[str, SuiteMethod]
    differences: dict[str, Interval]
    preference: PreferenceSweep | None = None
