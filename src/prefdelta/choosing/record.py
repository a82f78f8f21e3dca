"""What a search tried and chose, as it is kept beside the merged adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefdelta.evaluation.statistics import Difference
from prefdelta.merging.scale import Scale


@dataclass(frozen=True)
class Tried:
    """One candidate and its score in [0, 1]. ``adapters`` are names; ``options`` are the method's, as it got them."""

    adapters: tuple[str, ...]
    weights: tuple[float, ...]
    method: str
    options: Mapping[str, Any]
    scale: Scale
    score: float


@dataclass(frozen=True)
class Part:
    """An adapter's part in a merge: how much better the merge is with it than without it, each at its best scale.

    ``trial`` is the number, in the list of trials, of the merge without it.
    """

    adapter: str
    trial: int
    contribution: Difference


@dataclass(frozen=True)
class LeaveOneOut:
    """The part of every adapter in the merge that is trial number ``trial``."""

    trial: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Questions:
    """A benchmark: where its items come from, how they are scored, how many there are, and the hash of them all."""

    name: str
    source: str
    scorer: str
    items: int
    content: str


@dataclass(frozen=True)
class Source:
    """A model or an adapter, by the name it goes by and the hash of what it is."""

    name: str | None
    fingerprint: str


@dataclass(frozen=True)
class SearchRecord:
    """The whole search; ``prefdelta_search.json`` holds it as JSON, without paths or times.

    Attributes:
        schema: version of this layout.
        version: of this package.
        base: the model the adapters were put on.
        adapters: all that could be merged.
        split: which items chose; ``benchmarks`` has their number and hash.
        benchmarks: the score of a trial is the mean over them.
        sampling: how answers were drawn; the same random numbers for every trial.
        corpus: what the model could search, if it could.
        seed: of the random numbers of the answers. Nothing else in a search is random.
        base_score: of the base without any adapter.
        trials: every candidate, in the order of trial; the indices below count from 0.
        average: index of the plain average of all adapters at λ = 1.
        singles: indices of the adapters by themselves at λ = 1.
        selection: indices of the sets that greedy selection accepted one after the other.
        leave_one_out: the parts of the adapters in the best merge before weights were tuned.
        chosen: index of the choice.
        gain: the choice minus the plain average, paired by item, with its 95 % interval. It is optimistic, because
            the choice was made on these very items.
        warnings: what to think of before believing the score.
    """

    schema: int
    version: str
    base: Source
    adapters: tuple[Source, ...]
    split: str
    benchmarks: tuple[Questions, ...]
    sampling: Mapping[str, Any]
    corpus: str | None
    seed: int
    base_score: float
    trials: tuple[Tried, ...]
    average: int
    singles: tuple[int, ...]
    selection: tuple[int, ...]
    leave_one_out: LeaveOneOut | None
    chosen: int
    gain: Difference
    warnings: tuple[str, ...]

    @property
    def choice(self) -> Tried:
        """The trial that was chosen."""
        return self.trials[self.chosen]
