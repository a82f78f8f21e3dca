"""Bringing two runs' answers to the same items together, and refusing what cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefdelta.comparing.runs import Run
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array
from prefdelta.records import Record

_Answers = Mapping[str, Mapping[str, Record]]  # task -> item -> record


@dataclass(frozen=True)
class Side:
    """How one run did on a benchmark: all in percent, but ``tokens``, the mean number an answer has."""

    score: float
    unparsed: float
    truncated: float
    tokens: float


@dataclass(frozen=True)
class Joined:
    """Scores in [0, 1] of both runs on one benchmark, (seeds, items), the same item in the same place.

    ``clusters`` numbers the group that each item belongs to.
    """

    first: Array
    second: Array
    clusters: NDArray[np.int64]
    sides: tuple[Side, Side]

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1."""
        return bool(np.isin(self.first, (0, 1)).all() and np.isin(self.second, (0, 1)).all())


def join(first: Run, second: Run) -> dict[str, Joined]:
    """Join two runs on (task, item): for each task of the first run, in its order, the scores of both.

    A run of one seed is held against each seed of the other.

    Raises:
        PrefdeltaError: the items, the number of seeds, the prompts or the scorers differ.
    """
    ours, theirs = ([_by_task(run.name, rows) for rows in run.seeds] for run in (first, second))
    if len(ours) != len(theirs) and 1 not in (len(ours), len(theirs)):
        raise PrefdeltaError(
            f"{first.name} has {len(ours)} training seeds and {second.name} has {len(theirs)}; compare runs with the "
            "same seeds, or one seed of each."
        )
    for seeds, name in ((ours, first.name), (theirs, second.name)):
        for other in seeds[1:]:
            _same_items(name, f"{name}, another seed", seeds[0], other)
    _same_items(first.name, second.name, ours[0], theirs[0])
    _same_protocol(first.name, second.name, ours[0], theirs[0])
    return {task: _joined(task, sorted(items), ours, theirs) for task, items in ours[0].items()}


def _by_task(name: str, rows: Sequence[Record]) -> _Answers:
    found: dict[str, dict[str, Record]] = {}
    for row in rows:
        task = found.setdefault(row.task, {})
        if row.item in task:
            raise PrefdeltaError(f"{name} answers item {row.item!r} of {row.task!r} twice; item ids must differ.")
        task[row.item] = row
    return found


def _same_items(one: str, other: str, ours: _Answers, theirs: _Answers) -> None:
    if ours.keys() != theirs.keys():
        alone = sorted(ours.keys() ^ theirs.keys())
        raise PrefdeltaError(
            f"{one} and {other} share {len(ours.keys() & theirs.keys())} benchmarks, but only one of them has "
            f"{', '.join(map(repr, alone))}; evaluate both on the same benchmarks."
        )
    for task, items in ours.items():
        if items.keys() != theirs[task].keys():
            shared = len(items.keys() & theirs[task].keys())
            raise PrefdeltaError(
                f"{one} and {other} did not answer the same items of {task!r}: {shared} are shared, of {len(items)} "
                f"and {len(theirs[task])} (only one of them has {min(items.keys() ^ theirs[task].keys())!r}); "
                "evaluate both on the same items."
            )


def _same_protocol(one: str, other: str, ours: _Answers, theirs: _Answers) -> None:
    for task, items in ours.items():
        pairs = [(row, theirs[task][item]) for item, row in items.items()]
        scorers = {(a.scorer, b.scorer) for a, b in pairs if a.scorer and b.scorer and a.scorer != b.scorer}
        if scorers:
            scored, otherwise = min(scorers)
            raise PrefdeltaError(
                f"{task!r} was scored by {scored!r} in {one} and by {otherwise!r} in {other}; score both alike."
            )
        asked = [a.item for a, b in pairs if a.prompt_hash and b.prompt_hash and a.prompt_hash != b.prompt_hash]
        if asked:
            raise PrefdeltaError(
                f"{one} and {other} were not asked the same way: the prompts of {len(asked)} of {len(pairs)} items of "
                f"{task!r} differ (for example {min(asked)!r}); use the same template, examples and system prompt."
            )


def _joined(task: str, items: Sequence[str], ours: Sequence[_Answers], theirs: Sequence[_Answers]) -> Joined:
    first, second = (
        np.array([[float(seed[task][item].score) for item in items] for seed in seeds]) for seeds in (ours, theirs)
    )
    count = max(len(ours), len(theirs))
    groups = [theirs[0][task][item].group or ours[0][task][item].group or f"{item}\n" for item in items]
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return Joined(
        first=np.broadcast_to(first, (count, len(items))),
        second=np.broadcast_to(second, (count, len(items))),
        clusters=np.array([places[group] for group in groups], dtype=np.int64),
        sides=(_side(task, ours), _side(task, theirs)),
    )


def _side(task: str, seeds: Sequence[_Answers]) -> Side:
    rows = [row for seed in seeds for row in seed[task].values()]
    return Side(
        score=100 * float(np.mean([row.score for row in rows])),
        unparsed=100 * float(np.mean([row.parsed is None for row in rows])),
        truncated=100 * float(np.mean([row.truncated for row in rows])),
        tokens=float(np.mean([row.tokens for row in rows])),
    )
