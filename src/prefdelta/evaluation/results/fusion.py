"""Results of a fusion: many source models into one student."""

from __future__ import annotations

from typing import Any, Literal

from prefdelta.evaluation.results.parts import Against, Interval, Number, Result, RunResults

SOURCE = "source:"
"""What the name of a source model begins with among the methods."""

MethodKind = Literal["student", "stage", "main", "control", "comparison", "source"]


class Versus(Result):
    """A score and its differences to some references, by their names."""

    score: Number
    versus: dict[str, Interval]


class AverageVersus(Versus):
    """The mean over tasks, and of each training seed."""

    seeds: dict[str, Number]


class TaskVersus(Versus):
    """One task, and how its answers are."""

    n: int
    unparsed: Number
    truncated: Number
    tokens: Number


class TestVersus(Result):
    """Test scores of one model."""

    average: AverageVersus
    tasks: dict[str, TaskVersus]


class FusionMethod(Result):
    """One model of a fusion."""

    kind: MethodKind
    begins_at: str | None
    objective: str | None
    options: dict[str, Any]
    test: TestVersus
    validation: AverageVersus | None = None


class Demonstrations(Result):
    """What the student was fine-tuned on."""

    prompts: int
    unanswered: int
    demonstrations: int
    best_source: dict[str, int]
    score: Number
    tokens: Number


class Role(Result):
    """The answers in one place of the triples: mean score and tokens, and the share that the model ended itself."""

    score: Number
    tokens: Number
    ended: Number


class TripleAnswers(Result):
    """The answers that triples are made of."""

    roles: dict[str, Role]
    best_source: dict[str, int]


class FusionData(Result):
    """What was learned from with one seed."""

    demonstrations: Demonstrations
    triples: dict[str, int]
    answers: TripleAnswers


class FusionResults(RunResults):
    """``results.json`` of a fusion."""

    kind: Literal["fusion"] = "fusion"
    main: str
    control: str
    tasks: list[str]
    comparisons: list[Against]
    methods: dict[str, FusionMethod]
    data: dict[str, FusionData]
    behaviours: dict[str, dict[str, Number]] | None = None
