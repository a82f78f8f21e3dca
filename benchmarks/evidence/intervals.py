"""Means over cells with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from prefdelta.evaluation.statistics import Array, paired_difference

Answers = Sequence[Sequence[int]]
"""By task, 1 for every item that was answered right."""


def score(answers: Answers) -> float:
    """The mean over tasks, in percent."""
    return 100 * float(np.mean([np.mean(task) for task in answers]))


def told(mean: float, low: float | None, high: float | None, **about: Any) -> dict[str, Any]:
    """A number as the results have it, to one digit."""
    bounds = [None if bound is None else round(bound, 1) for bound in (low, high)]
    return {"mean": round(mean, 1), "low": bounds[0], "high": bounds[1], **about}


def over_seeds(ours: Sequence[Answers], theirs: Sequence[Answers] | None = None) -> dict[str, Any]:
    """A score, or the difference of two paired by item, with the noise of items and of training seeds."""
    rows = [stacked(answers) for answers in ours]
    if theirs is not None:
        others = [stacked(answers) for answers in theirs]
        rows = [[a - b for a, b in zip(left, right, strict=True)] for left, right in zip(rows, others, strict=True)]
    by_task = [np.concatenate([row[task] for row in rows]) for task in range(len(rows[0]))]
    found = paired_difference(by_task, unit=100.0)
    return told(found.mean, found.low, found.high, seeds=found.seeds, items=found.items)


def stacked(answers: Answers) -> list[Array]:
    """By task ``(1, items)``, in percent."""
    return [100.0 * np.array([task], dtype=float) for task in answers]


def over_groups(values: Mapping[Any, Sequence[float]]) -> dict[str, Any]:
    """The mean over cells; the interval is Student's over the groups' means, since cells of a group share deltas."""
    means = np.array([float(np.mean(group)) for group in values.values()])
    every = [value for group in values.values() for value in group]
    if len(means) < 2:
        return told(float(np.mean(every)), None, None, cells=len(every), groups=len(means), worst=round(max(every), 1))
    half = float(stats.t.ppf(0.975, len(means) - 1)) * float(means.std(ddof=1)) / len(means) ** 0.5
    mean = float(means.mean())
    return told(mean, mean - half, mean + half, cells=len(every), groups=len(means), worst=round(max(every), 1))
