"""Normalised accuracies with intervals, from outcomes item by item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array, Difference, paired_difference
from prefdelta.suite.measure import Outcome


def shares(merged: Sequence[Outcome], single: Sequence[Outcome]) -> Array:
    """A task's items as shares of its own adapter's accuracy, in per cent: ``(seeds, items)``.

    The mean of a row is 100 · m / s, the merge's accuracy over the single adapter's. Items are those of the ratio's
    linearisation, 100 (cᵢ/s - (m/s²)(dᵢ - s)) with c and d the right answers of merge and single adapter, so that
    their spread also holds the denominator's error, paired item by item (the delta method).

    Args:
        merged: one outcome per seed.
        single: the task's own adapter on the same items, one outcome per seed.

    Raises:
        PrefdeltaError: a single adapter gets nothing right.
    """
    rows = []
    for ours, theirs in zip(merged, single, strict=True):
        c, d = ours.correct.double().numpy(), theirs.correct.double().numpy()
        m, s = float(c.mean()), float(d.mean())
        if s == 0:
            raise PrefdeltaError("a task's own adapter gets no test item right; nothing can be a share of that.")
        rows.append(100 * (c / s - (m / s**2) * (d - s)))
    return np.stack(rows)


def hits(outcomes: Sequence[Sequence[Outcome]], k: int) -> Array:
    """Joint Hits@k in per cent over all tasks' items pooled, ``(seeds, items)``."""
    return np.stack([np.concatenate([100.0 * _place(outcome, k) for outcome in per_seed]) for per_seed in outcomes])


def correct(outcomes: Sequence[Outcome]) -> Array:
    """Right answers in per cent, ``(seeds, items)``."""
    return np.stack([100.0 * outcome.correct.double().numpy() for outcome in outcomes])


def summary(tasks: Sequence[Array]) -> dict[str, float]:
    """The mean over tasks with its 95 % interval over items and, with several seeds, seeds."""
    found = paired_difference(tasks)
    return {"mean": round(found.mean, 3), "low": round(found.low, 3), "high": round(found.high, 3)}


def difference(ours: Sequence[Array], theirs: Sequence[Array]) -> Difference:
    """The mean over tasks of the difference of two methods, paired by item and seed."""
    return paired_difference([a - b for a, b in zip(ours, theirs, strict=True)])


def _place(outcome: Outcome, k: int) -> Array:
    assert outcome.joint_place is not None
    return (outcome.joint_place < k).double().numpy()
