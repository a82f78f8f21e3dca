"""Many models on the same items: their scores, and how one of them compares with each of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdelta.evaluation.alignment import aligned_scores
from prefdelta.evaluation.results import BEHAVIOUR, Seed
from prefdelta.evaluation.statistics import (
    Array,
    Difference,
    holm,
    minimum_detectable_effect,
    p_value,
    paired_difference,
)
from prefdelta.records import Record

_POINTS = 100.0  # scores in [0, 1] are shown in percent


class Contest:
    """The scores of several models on the same items, by task and training seed.

    A model that no seed touches has the one seed ``None`` and is compared with every seed of another.

    Args:
        records: by (model, seed); every model answered the same items with every seed.

    Attributes:
        models: their names, in the order given.
        tasks: their names, in the order of the first model's records.

    Raises:
        PrefdeltaError: two models did not answer the same items.
    """

    def __init__(self, records: Mapping[tuple[str, Seed], Sequence[Record]]) -> None:
        self._records = records
        self.models = list(dict.fromkeys(model for model, _ in records))
        first = next(iter(records.values()))
        self.tasks = list(dict.fromkeys(record.task for record in first))
        self._items = {task: sorted(record.item for record in first if record.task == task) for task in self.tasks}
        self._seeds: dict[str, list[Seed]] = {}
        self._scores: dict[tuple[str, Seed], dict[str, Array]] = {}
        for (model, seed), rows in records.items():
            self._seeds.setdefault(model, []).append(seed)
            who = f"{model!r} and {self.models[0]!r}"
            self._scores[model, seed] = aligned_scores(rows, self._items, who)
        self._groups = self._grouped(first)

    def score(self, model: str, task: str | None = None) -> float:
        """Mean over seeds of a task's score, or of the mean over tasks, in percent."""
        tasks = self.tasks if task is None else [task]
        means = [np.mean([self._scores[model, seed][name].mean() for name in tasks]) for seed in self._seeds[model]]
        return _POINTS * float(np.mean(means))

    def per_seed(self, model: str) -> dict[str, float]:
        """Seed -> mean over tasks in percent."""
        return {
            str(seed): _POINTS * float(np.mean([self._scores[model, seed][task].mean() for task in self.tasks]))
            for seed in self._seeds[model]
        }

    def difference(self, model: str, other: str, task: str | None = None) -> Difference:
        """``model`` minus ``other``, paired by item and seed, in percentage points."""
        tasks = self.tasks if task is None else [task]
        return paired_difference(self._paired(model, other, tasks), clusters=self._clusters(tasks), unit=_POINTS)

    def against(self, model: str, others: Sequence[str]) -> list[dict[str, Any]]:
        """``model`` against each of several others, with p-values corrected for their number (Holm)."""
        pairs = [self._paired(model, other, self.tasks) for other in others]
        clusters = self._clusters(self.tasks)
        raw = [p_value(pair, clusters=clusters, unit=_POINTS) for pair in pairs]
        differences = [paired_difference(pair, clusters=clusters, unit=_POINTS) for pair in pairs]
        return [
            {
                "with": other,
                **interval(difference),
                "p": p,
                "p_holm": corrected,
                "detectable": minimum_detectable_effect(difference),
            }
            for other, difference, p, corrected in zip(others, differences, raw, holm(raw), strict=True)
        ]

    def entry(self, model: str, references: Sequence[str]) -> dict[str, Any]:
        """A model's scores, on average and by task, with its differences to some references."""

        def compared(task: str | None) -> dict[str, Any]:
            return {
                "score": self.score(model, task),
                "versus": {
                    other: interval(self.difference(model, other, task)) for other in references if other != model
                },
            }

        return {
            "average": {**compared(None), "seeds": self.per_seed(model)},
            "tasks": {task: {**compared(task), **self._answers(model, task)} for task in self.tasks},
        }

    def behaviours(self, model: str) -> dict[str, float]:
        """How often answers show each behaviour, in percent of those that could."""
        shown: dict[str, list[float]] = {}
        for seed in self._seeds[model]:
            for record in self._records[model, seed]:
                for key, value in record.extra.items():
                    if key.startswith(BEHAVIOUR):
                        shown.setdefault(key.removeprefix(BEHAVIOUR), []).append(value)
        return {name: 100 * float(np.mean(values)) for name, values in sorted(shown.items())}

    def _answers(self, model: str, task: str) -> dict[str, float]:
        rows = [row for seed in self._seeds[model] for row in self._records[model, seed] if row.task == task]
        return {
            "n": len(self._items[task]),
            "unparsed": 100 * float(np.mean([row.unparsed for row in rows])),
            "truncated": 100 * float(np.mean([row.truncated for row in rows])),
            "tokens": float(np.mean([row.tokens for row in rows])),
        }

    def _paired(self, model: str, other: str, tasks: Sequence[str]) -> list[Array]:
        ours, theirs = self._seeds[model], self._seeds[other]
        if [None] in (ours, theirs):
            pairs = [(a, b) for a in ours for b in theirs]
        else:
            pairs = [(seed, seed) for seed in ours if seed in theirs]
        return [
            _POINTS * np.stack([self._scores[model, a][task] - self._scores[other, b][task] for a, b in pairs])
            for task in tasks
        ]

    def _grouped(self, rows: Sequence[Record]) -> dict[str, NDArray[np.int64]]:
        """Task -> the number of each item's group; items without one are groups of their own."""
        groups = {(row.task, row.item): row.group or f"item {row.item}" for row in rows}
        return {
            task: np.unique([groups[task, item] for item in items], return_inverse=True)[1]
            for task, items in self._items.items()
        }

    def _clusters(self, tasks: Sequence[str]) -> list[NDArray[np.int64]]:
        return [self._groups[task] for task in tasks]


def interval(difference: Difference) -> dict[str, Any]:
    """A difference as ``results.json`` has it."""
    return {
        "mean": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "seed_noise": difference.seed_noise,
    }
