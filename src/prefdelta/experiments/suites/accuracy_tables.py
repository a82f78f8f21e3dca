"""Score tables of a suite: normalised accuracies, accuracies and joint Hits@k, from outcomes item by item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.score_table import POINTS, ScoreTable
from prefdelta.evaluation.statistics import Array
from prefdelta.experiments.suites.measure import Outcome

Outcomes = Mapping[int, Mapping[str, Outcome]]
"""Training seed -> task -> its items."""

POOLED = "all tasks"
"""The one task of :func:`hits_table`."""


def normalised_accuracy(merged: Mapping[str, float], single: Mapping[str, float]) -> dict[str, float]:
    """100 · accuracy of the merge / accuracy of the task's own adapter, by task; it may exceed 100.

    Raises:
        PrefdeltaError: an adapter gets nothing right.

    >>> normalised_accuracy({"mnist": 0.72, "digits": 0.95}, {"mnist": 0.9, "digits": 0.95})
    {'mnist': 80.0, 'digits': 100.0}
    """
    for name in merged:
        if not single[name] > 0:
            raise PrefdeltaError(
                f"the adapter of task {name!r} has accuracy {single[name]}; nothing can be a share of it."
            )
    return {name: round(100 * accuracy / single[name], 10) for name, accuracy in merged.items()}


def shares_table(methods: Mapping[str, Outcomes], single: Outcomes, tasks: Sequence[str]) -> ScoreTable:
    """Every method's items as shares of the tasks' own adapters' accuracy, in percent.

    The mean of a row is 100 · m / s, the merge's accuracy over the single adapter's. Items are those of the ratio's
    linearisation, 100 (cᵢ/s - (m/s²)(dᵢ - s)) with c and d the right answers of merge and single adapter, so that
    their spread also holds the denominator's error, paired item by item (the delta method).

    Raises:
        PrefdeltaError: a single adapter gets nothing right.
    """
    return _table(methods, lambda seed, ours: {task: _shares(ours[task], single[seed][task]) for task in tasks})


def accuracy_table(methods: Mapping[str, Outcomes], tasks: Sequence[str]) -> ScoreTable:
    """Right answers in percent."""
    return _table(methods, lambda seed, ours: {task: POINTS * _correct(ours[task]) for task in tasks})


def hits_table(methods: Mapping[str, Outcomes], tasks: Sequence[str], k: int) -> ScoreTable:
    """Joint Hits@k in percent over all tasks' items pooled, as the one task ``POOLED``."""
    return _table(methods, lambda seed, ours: {POOLED: np.concatenate([_hits(ours[task], k) for task in tasks])})


def _table(
    methods: Mapping[str, Outcomes], items: Callable[[int, Mapping[str, Outcome]], Mapping[str, Array]]
) -> ScoreTable:
    """``items`` gives the scores of a seed's outcomes by task."""
    scores = {}
    for name, ours in methods.items():
        rows = [items(seed, outcomes) for seed, outcomes in ours.items()]
        scores[name] = {task: np.stack([row[task] for row in rows]) for task in rows[0]}
    return ScoreTable(scores, {name: list(ours) for name, ours in methods.items()}, unit=0.0)


def _shares(merged: Outcome, single: Outcome) -> Array:
    c, d = _correct(merged), _correct(single)
    m, s = float(c.mean()), float(d.mean())
    if s == 0:
        raise PrefdeltaError("a task's own adapter gets no test item right; nothing can be a share of that.")
    return POINTS * (c / s - (m / s**2) * (d - s))


def _correct(outcome: Outcome) -> Array:
    right: Array = outcome.correct.double().numpy()
    return right


def _hits(outcome: Outcome, k: int) -> Array:
    assert outcome.joint_place is not None
    hit: Array = (outcome.joint_place < k).double().numpy()
    return POINTS * hit
