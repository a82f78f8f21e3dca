"""Score tables: the scores of many models on the same items, by task and training seed, and their paired comparisons.

Every comparison of models in prefdelta is made on such a table. Records are aligned once, when it is made: what the
models did not answer alike is refused there, and from then on an item is a place in an array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record
from prefdelta.evaluation.results import Against, Interval
from prefdelta.evaluation.statistics import (
    Array,
    Clusters,
    Difference,
    holm,
    minimum_detectable_effect,
    p_value,
    paired_difference,
)

Seed = int | None  # None: a model that no training seed touches (the student, a weak model)

PAIR_MARGIN = "pair-margin"  # what records of pairs name as their scorer
BEHAVIOUR = "behaviour:"  # prefix of a record's ``extra`` keys that say whether an answer shows a behaviour
POINTS = 100.0  # scores in [0, 1] are told in percent

Aligned = Mapping[str, Sequence[Sequence[Record]]]
"""Task -> one row a seed of the records of its items, in one order for all models."""


def percent(record: Record) -> float:
    """A record's score in percent."""
    return POINTS * record.score


@dataclass(frozen=True)
class Health:
    """What beside the score tells whether answers are sound: ``unparsed`` and ``truncated`` in percent, mean tokens."""

    unparsed: float
    truncated: float
    tokens: float


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several models on the same items.

    Attributes:
        scores: model -> task -> ``(seeds, items)``, the same item in the same place for every model.
        seeds: model -> its training seeds, one a row. A model that no seed touches has the one seed ``None`` and is
            paired with every seed of another.
        clusters: task -> ``(items,)``, the number of each item's cluster. Without an entry each item stands for itself.
        unit: the largest difference that one item can show, see :func:`paired_difference`; 0 where there is none.
        records: model -> the records that the scores were read from; empty if they were not.
    """

    scores: Mapping[str, Mapping[str, Array]]
    seeds: Mapping[str, Sequence[Seed]]
    clusters: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    unit: float = POINTS
    records: Mapping[str, Aligned] = field(default_factory=dict)

    @classmethod
    def from_records(
        cls, records: Mapping[tuple[str, Seed], Sequence[Record]], *, where: str = "", unit: float = POINTS
    ) -> ScoreTable:
        """The table of the scores of some records, in percent.

        Args:
            records: by (model, training seed), in any order; the first entry's order of tasks is kept.
            where: what these models are compared on, for messages: "domain 'search': ".
            unit: the largest difference that one item can show.

        Raises:
            PrefdeltaError: two of them did not answer the same items of the same tasks, or one an item twice.
        """
        seeds: dict[str, list[Seed]] = {}
        for model, seed in records:
            seeds.setdefault(model, []).append(seed)
        answered = {
            (model, seed): _by_task(f"{where}{_who(model, seed, seeds)}", rows)
            for (model, seed), rows in records.items()
        }
        (first, of_first), *others = answered.items()
        for (model, seed), of_other in others:
            _check_same_items(f"{where}{_who(model, seed, seeds)} and {_who(*first, seeds)}", of_other, of_first)
        items = {task: sorted(of_first[task]) for task in of_first}
        aligned = {
            model: {
                task: [[answered[model, seed][task][name] for name in names] for seed in seeds[model]]
                for task, names in items.items()
            }
            for model in seeds
        }
        return cls({}, seeds, _clusters(aligned), unit, aligned).measured(percent, unit=unit)

    def measured(self, value: Callable[[Record], float], *, unit: float) -> ScoreTable:
        """The same table of another measure of the same records."""
        scores = {
            model: {
                task: np.array([[value(record) for record in row] for row in rows], dtype=np.float64)
                for task, rows in tasks.items()
            }
            for model, tasks in self.records.items()
        }
        return replace(self, scores=scores, unit=unit)

    @property
    def models(self) -> list[str]:
        """Their names, in order."""
        return list(self.scores)

    @property
    def tasks(self) -> list[str]:
        """Their names, in order."""
        return list(next(iter(self.scores.values())))

    def items(self, task: str | None = None) -> int:
        """How many items a task has, or all tasks together."""
        scores = next(iter(self.scores.values()))
        return sum(scores[name].shape[1] for name in self._some(task))

    def groups(self, task: str | None = None) -> int:
        """How many clusters these items fall in; as many as items where each stands for itself."""
        return sum(np.unique(labels).size for labels in self.labels(task))

    def score(self, model: str, task: str | None = None) -> float:
        """Mean over seeds of a task's mean score, or of the mean over tasks."""
        return float(np.mean(self._by_seed(model, self._some(task))))

    def per_seed(self, model: str) -> dict[str, float]:
        """Seed -> mean over tasks."""
        means = self._by_seed(model, self.tasks)
        return {str(seed): float(mean) for seed, mean in zip(self.seeds[model], means, strict=True)}

    def differences(self, model: str, other: str, task: str | None = None) -> list[Array]:
        """``model`` minus ``other``: one array ``(seeds, items)`` a task, paired by item and training seed.

        Raises:
            PrefdeltaError: the two share no training seed.
        """
        rows = [list(column) for column in zip(*self._paired(model, other), strict=True)]
        return [self.scores[model][name][rows[0]] - self.scores[other][name][rows[1]] for name in self._some(task)]

    def _paired(self, model: str, other: str) -> list[tuple[int, int]]:
        ours, theirs = self.seeds[model], self.seeds[other]
        if [None] in (list(ours), list(theirs)):
            pairs = [(a, b) for a in range(len(ours)) for b in range(len(theirs))]
        else:
            pairs = [(a, theirs.index(seed)) for a, seed in enumerate(ours) if seed in theirs]
        if not pairs:
            raise PrefdeltaError(f"{model!r} and {other!r} share no training seed; train both with the same seeds.")
        return pairs

    def changed(self, model: str, other: str, task: str | None = None) -> float | None:
        """How many of the answers are another than ``other``'s to the same item, in percent, the mean over tasks.

        An answer is what the scorer found in it, or the whole text where it found nothing. Tasks without texts
        (preference pairs) are left out; ``None`` if there is no other.

        Raises:
            PrefdeltaError: the two share no training seed.
        """
        shares = []
        for name in self._some(task):
            ours, theirs = self.records[model][name], self.records[other][name]
            together = [both for a, b in self._paired(model, other) for both in zip(ours[a], theirs[b], strict=True)]
            if any(record.output for both in together for record in both):
                shares.append(float(np.mean([_answer(mine) != _answer(its) for mine, its in together])))
        return POINTS * float(np.mean(shares)) if shares else None

    def difference(self, model: str, other: str, task: str | None = None) -> Difference:
        """The mean of :meth:`differences` over tasks, with its 95 % interval."""
        pairs = self.differences(model, other, task)
        return paired_difference(pairs, clusters=self.labels(task), unit=self.unit)

    def mean(self, model: str, task: str | None = None) -> Interval:
        """A model's own mean over tasks with its 95 % interval."""
        values = [self.scores[model][name] for name in self._some(task)]
        return interval(paired_difference(values, clusters=self.labels(task), unit=self.unit))

    def p_value(self, model: str, other: str, task: str | None = None) -> float:
        """The two-sided p-value of "no difference" that belongs to :meth:`difference`."""
        return p_value(self.differences(model, other, task), clusters=self.labels(task), unit=self.unit)

    def interval(self, model: str, other: str, task: str | None = None) -> Interval:
        """:meth:`difference` as results hold it."""
        return interval(self.difference(model, other, task))

    def against(self, model: str, others: Sequence[str]) -> list[Against]:
        """``model`` against each of several others, with p-values corrected for their number (Holm)."""
        raw = [self.p_value(model, other) for other in others]
        return [
            Against(**dict(self.interval(model, other)), other=other, p=p, p_holm=corrected)
            for other, p, corrected in zip(others, raw, holm(raw), strict=True)
        ]

    def health(self, model: str, task: str) -> Health:
        """How a model's answers to a task are, over all seeds."""
        rows = [record for row in self.records[model][task] for record in row]
        return Health(
            unparsed=POINTS * float(np.mean([record.unparsed for record in rows])),
            truncated=POINTS * float(np.mean([record.truncated for record in rows])),
            tokens=float(np.mean([record.tokens for record in rows])),
        )

    def measures(self, model: str, task: str) -> dict[str, Interval] | None:
        """What the records of a task tell beside the score, each in its own unit, with its 95 % interval.

        Behaviours are left out, and so is what only some of the records tell; ``None`` where nothing is left.
        """
        records = [record for row in self.records[model][task] for record in row]
        names = set.intersection(*({*record.extra} for record in records))
        if self.groups(task) < 2:
            return None
        rows = self.records[model][task]
        found = {
            name: interval(
                paired_difference(
                    [np.array([[record.extra[name] for record in row] for row in rows])], clusters=self.labels(task)
                )
            )
            for name in sorted(names)
            if not name.startswith(BEHAVIOUR)
        }
        return found or None

    def behaviours(self, model: str) -> dict[str, float]:
        """How often a model's answers show each behaviour, in percent of those that could."""
        shown: dict[str, list[float]] = {}
        for rows in self.records[model].values():
            for record in (record for row in rows for record in row):
                for key, value in record.extra.items():
                    if key.startswith(BEHAVIOUR):
                        shown.setdefault(key.removeprefix(BEHAVIOUR), []).append(value)
        return {name: POINTS * float(np.mean(values)) for name, values in sorted(shown.items())}

    def labels(self, task: str | None = None) -> Clusters:
        """The number of each item's cluster, of a task or of all tasks in their order."""
        return [self.clusters.get(name, np.arange(self.items(name))) for name in self._some(task)]

    def _some(self, task: str | None) -> list[str]:
        return self.tasks if task is None else [task]

    def _by_seed(self, model: str, tasks: Sequence[str]) -> Array:
        means: Array = np.mean([self.scores[model][name].mean(axis=1) for name in tasks], axis=0)
        return means


def _answer(record: Record) -> str:
    return record.output if record.parsed is None else record.parsed


def mean_difference(parts: Sequence[tuple[ScoreTable, str, str]]) -> Difference:
    """The mean over several tables of a difference, each table weighing the same.

    A seed's value is its mean over the tables, so that seeds stay paired.

    Args:
        parts: (table, model, other): what is compared in each.
    """
    weights = [1 / (len(parts) * len(table.tasks)) for table, _, _ in parts for _ in table.tasks]
    return paired_difference(
        [task for table, model, other in parts for task in table.differences(model, other)],
        weights=weights,
        clusters=[labels for table, _, _ in parts for labels in table.labels()],
        unit=parts[0][0].unit,
    )


def interval(difference: Difference) -> Interval:
    """A difference as results hold it."""
    return Interval(
        mean=difference.mean,
        low=difference.low,
        high=difference.high,
        seed_noise=difference.seed_noise,
        detectable=minimum_detectable_effect(difference),
    )


def _who(model: str, seed: Seed, seeds: Mapping[str, Sequence[Seed]]) -> str:
    return repr(model) if len(seeds[model]) == 1 else f"{model!r} with seed {seed}"


def _by_task(who: str, rows: Sequence[Record]) -> dict[str, dict[str, Record]]:
    found: dict[str, dict[str, Record]] = {}
    for row in rows:
        task = found.setdefault(row.task, {})
        if row.item in task:
            raise PrefdeltaError(f"{who} answers item {row.item!r} of {row.task!r} twice; item ids must differ.")
        task[row.item] = row
    return found


def _check_same_items(
    who: str, ours: Mapping[str, Mapping[str, Record]], theirs: Mapping[str, Mapping[str, Record]]
) -> None:
    if ours.keys() != theirs.keys():
        alone = sorted(ours.keys() ^ theirs.keys())
        raise PrefdeltaError(
            f"{who} share {len(ours.keys() & theirs.keys())} benchmarks, but only one of them has "
            f"{', '.join(map(repr, alone))}; evaluate both on the same benchmarks."
        )
    for task, items in ours.items():
        if items.keys() != theirs[task].keys():
            shared = len(items.keys() & theirs[task].keys())
            raise PrefdeltaError(
                f"{who} did not answer the same items of {task!r}: {shared} are shared, of {len(items)} and "
                f"{len(theirs[task])} (only one of them has {min(items.keys() ^ theirs[task].keys())!r}); evaluate "
                "both on the same items."
            )


def _clusters(aligned: Mapping[str, Aligned]) -> dict[str, NDArray[np.int64]]:
    """Task -> the number of each item's group, as the first model tells it that knows one; tasks without groups are
    left out.
    """
    found = {}
    for task in next(iter(aligned.values())):
        rows = [row for tasks in aligned.values() for row in tasks[task]]
        groups = [next((record.group for record in column if record.group), "") for column in zip(*rows, strict=True)]
        if any(groups):
            alone = (group or f"\n{place}" for place, group in enumerate(groups))
            found[task] = np.unique(list(alone), return_inverse=True)[1].astype(np.int64)
    return found
