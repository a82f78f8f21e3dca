"""What tuning tried and chose, stored in the folder of the merged adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from prefdelta.evaluation.results import Guard, Result, Results
from prefdelta.evaluation.statistics import Difference
from prefdelta.merging.scale import Scale

RECORD_NAME = "prefdelta_tuning.json"


class Tried(Result):
    """One candidate and its score, larger is better.

    ``adapters`` are names; ``options`` are the method's, as it got them; ``unparsed`` is the share of the answers in
    which the scorer found none, ``None`` where nothing was answered.
    """

    adapters: tuple[str, ...]
    weights: tuple[float, ...]
    method: str
    options: Mapping[str, Any]
    scale: Scale
    score: float
    unparsed: float | None


class Part(Result):
    """An adapter's part in a merge: how much better the merge is with it than without it, each at its best scale.

    ``trial`` is the number, in the list of trials, of the merge without it.
    """

    adapter: str
    trial: int
    contribution: Difference


class LeaveOneOut(Result):
    """The part of every adapter in the merge that is trial number ``trial``."""

    trial: int
    parts: tuple[Part, ...]


class Questions(Result):
    """A benchmark: where its items come from, how they are scored, how many there are, and the hash of them all.

    Preference pairs are told in the same way; their scorer is ``pair-loss``.
    """

    name: str
    source: str
    scorer: str
    items: int
    content: str


class Source(Result):
    """A model or an adapter, by the name it goes by and the hash of what it is."""

    name: str | None
    fingerprint: str


class TuningRecord(Results):
    """All that was tried and chosen; ``prefdelta_tuning.json`` holds it as JSON, without paths or times.

    Attributes:
        prefdelta: version of this package.
        base: the model the adapters were put on.
        adapters: all that could be merged.
        by: what a score is: ``labels`` (in [0, 1]), ``agreement`` (information, at most 1) or ``pairs`` (minus the mean
            loss, at most 0).
        beta: β of the loss on pairs.
        cost: answers, or sequences read, of one trial.
        split: which items chose; ``benchmarks`` has their number and hash.
        benchmarks: the score of a trial is the mean over them.
        sampling: how answers were drawn; the same random numbers for every trial.
        corpus: what the model could search, if it could.
        seed: of the random numbers of the answers. Nothing else is random.
        base_score: of the base without any adapter, as a trial's; so is ``base_unparsed``.
        trials: every candidate, in the order of trial; the indices below count from 0.
        average: index of the plain average of all adapters at λ = 1; ``None`` where only one merge was scaled.
        singles: indices of the adapters by themselves at λ = 1.
        selection: indices of the sets that greedy selection accepted one after the other.
        leave_one_out: the parts of the adapters in the best merge before weights were tuned.
        chosen: index of the choice.
        ties: indices of the trials that the items cannot tell from the choice.
        gain: the choice minus the plain average, paired by item, with its 95 % interval. It is optimistic, because
            the choice was made on these very items. ``None`` without the average.
        range: the first and the last of the neighbouring λ of the chosen merge that the items cannot tell from it;
            ``None`` where λ is a rule.
        guard: KL of the choice from the base on the base's own answers, and the shares of unparsed answers.
        doubts: what speaks against all scores: answers cut off, unreadable or all wrong.
        warnings: what to think of before believing the score.
    """

    kind: Literal["tuning"] = "tuning"
    prefdelta: str
    base: Source
    adapters: tuple[Source, ...]
    by: str
    beta: float | None
    cost: int
    split: str
    benchmarks: tuple[Questions, ...]
    sampling: Mapping[str, Any]
    corpus: str | None
    seed: int
    base_score: float
    base_unparsed: float | None
    trials: tuple[Tried, ...]
    average: int | None
    singles: tuple[int, ...]
    selection: tuple[int, ...]
    leave_one_out: LeaveOneOut | None
    chosen: int
    ties: tuple[int, ...]
    gain: Difference | None
    range: tuple[float, float] | None
    guard: Guard
    doubts: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def choice(self) -> Tried:
        """The trial that was chosen."""
        return self.trials[self.chosen]
