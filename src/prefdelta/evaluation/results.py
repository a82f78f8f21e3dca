"""From scored answers to the numbers of a run: ``results.json`` (its schema is in docs/results.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prefdelta.evaluation.alignment import aligned_scores
from prefdelta.evaluation.selection import Selection
from prefdelta.evaluation.statistics import Array, Difference, minimum_detectable_effect, paired_difference
from prefdelta.records import Record

Kind = Literal["student", "weak", "single", "merge", "baseline", "control"]
Seed = int | None  # None: a model that no training seed touches (the student, a weak model)

BEHAVIOUR = "behaviour:"  # prefix of a record's ``extra`` keys that say whether an answer shows a behaviour
_POINTS = 100.0  # scores in [0, 1] are told in percent
_DIGITS = 4


@dataclass(frozen=True)
class Variant:
    """One model that was evaluated.

    Attributes:
        name: its key in the records; unique within a domain.
        kind: what it is.
        source: the delta (``single``), merge method (``merge``) or model that it is made of; defaults to the name.
        scale: λ, by which its adapter was multiplied; ``None`` without an adapter.
        tuned: λ was chosen on validation items (else it is the recipe's plain 1).
        norm: Frobenius norm of its update, mean over seeds.
        norm_ratio_to_average: that norm divided by the norm of the plain average at λ = 1.
        cosine_to_average: cosine between its update and the plain average.
    """

    name: str
    kind: Kind
    source: str = ""
    scale: float | None = None
    tuned: bool = False
    norm: float | None = None
    norm_ratio_to_average: float | None = None
    cosine_to_average: float | None = None

    @property
    def label(self) -> str:
        """The delta, method or model, by its own name."""
        return self.source or self.name


@dataclass(frozen=True)
class DomainOutcome:
    """All that was measured in one domain.

    Attributes:
        variants: exactly one ``student``, at least one ``single`` and one ``merge``; the order is kept.
        records: test records by (variant name, training seed). Every variant answered the same items.
        merges: what validation chose among the merges. The chosen method at its chosen scale must be a variant.
        singles: what validation chose for each single delta.
    """

    variants: Sequence[Variant]
    records: Mapping[tuple[str, Seed], Sequence[Record]]
    merges: Selection
    singles: Selection | None = None


def domain_score(records: Sequence[Record]) -> float:
    """The score of a domain in [0, 1]: the mean over its tasks of the mean over a task's items."""
    tasks: dict[str, list[float]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(record.score)
    return float(np.mean([np.mean(scores) for scores in tasks.values()]))


def summarise(recipe: str, seeds: Sequence[int], domains: Mapping[str, DomainOutcome]) -> dict[str, Any]:
    """All numbers of a run, in percentage points, rounded, ready for JSON; equal input gives equal bytes.

    The merge that stands for a domain was chosen, method and λ, on validation items. The single delta that it is
    held against is the best one *on the test items*, among all single deltas both at λ = 1 and at the λ that
    validation chose for them: a comparison that leans against the merge.

    Raises:
        PrefdeltaError: two variants of a domain did not answer the same items.
    """
    tables = {name: _Domain(name, outcome) for name, outcome in domains.items()}
    result = {
        "schema": 1,
        "recipe": recipe,
        "seeds": list(seeds),
        "summary": _overall(tables),
        "domains": {name: table.to_json() for name, table in tables.items()},
    }
    return dict(rounded(result))


class _Domain:
    """The score matrices of one domain: variant -> task -> array (seeds, items), items in one order for all."""

    def __init__(self, name: str, outcome: DomainOutcome) -> None:
        self.name = name
        self.outcome = outcome
        (self.student,) = [variant for variant in outcome.variants if variant.kind == "student"]
        first = next(records for (variant, _), records in outcome.records.items() if variant == self.student.name)
        self.tasks = list(dict.fromkeys(record.task for record in first))
        self.items = {task: sorted(record.item for record in first if record.task == task) for task in self.tasks}
        self.seeds: dict[str, list[Seed]] = {}
        self.scores: dict[tuple[str, Seed], dict[str, Array]] = {}
        for (variant, seed), records in outcome.records.items():
            self.seeds.setdefault(variant, []).append(seed)
            who = f"domain {self.name!r}: {variant!r} and the student"
            self.scores[variant, seed] = aligned_scores(records, self.items, who)
        self.best_single = max(
            (variant for variant in outcome.variants if variant.kind == "single"), key=lambda v: self.score(v.name)
        )
        chosen = (outcome.merges.best, outcome.merges.scale[outcome.merges.best])
        self.best_merge = next(
            variant
            for variant in outcome.variants
            if variant.kind == "merge" and (variant.label, variant.scale) == chosen
        )

    def score(self, variant: str, task: str | None = None) -> float:
        """Mean over seeds (and over tasks) in percent."""
        tasks = self.tasks if task is None else [task]
        per_seed = [
            np.mean([self.scores[variant, seed][name].mean() for name in tasks]) for seed in self.seeds[variant]
        ]
        return 100 * float(np.mean(per_seed))

    def differences(self, variant: str, other: str) -> list[Array]:
        """Per task, (seeds, items) paired differences in percent; a model without seeds is paired with every seed."""
        ours, theirs = self.seeds[variant], self.seeds[other]
        if ours == [None] or theirs == [None]:
            pairs = [(a, b) for a in ours for b in theirs]
        else:
            pairs = [(seed, seed) for seed in ours if seed in theirs]
        return [
            100 * np.stack([self.scores[variant, a][task] - self.scores[other, b][task] for a, b in pairs])
            for task in self.tasks
        ]

    def to_json(self) -> dict[str, Any]:
        """The domain's entry in ``results.json``."""
        merges = self.outcome.merges
        selection: dict[str, Any] = {"split": "validation", "best_merge": merges.best, **_selection(merges)}
        if self.outcome.singles is not None:
            selection["singles"] = _selection(self.outcome.singles)
        result = {
            "summary": {
                "student": self.score(self.student.name),
                "best_single": self.named(self.best_single),
                "best_merge": self.named(self.best_merge),
                "gain_over_best_single": self._versus(self.best_merge.name, self.best_single.name),
                "gain_over_student": self._versus(self.best_merge.name, self.student.name),
            },
            "selection": selection,
            "tasks": self.tasks,
            "methods": {variant.name: self._variant(variant) for variant in self.outcome.variants},
        }
        behaviours = {variant.name: self._behaviours(variant.name) for variant in self.outcome.variants}
        if any(behaviours.values()):
            result["behaviours"] = behaviours
        return result

    def named(self, variant: Variant) -> dict[str, Any]:
        """A variant as the summaries show it."""
        score = self.score(variant.name)
        return {"name": variant.label, "variant": variant.name, "scale": variant.scale, "score": score}

    def _variant(self, variant: Variant) -> dict[str, Any]:
        records = [record for seed in self.seeds[variant.name] for record in self.outcome.records[variant.name, seed]]
        tasks = {}
        for task in self.tasks:
            here = [record for record in records if record.task == task]
            tasks[task] = {
                **self._compared(variant.name, task),
                "unparsed": 100 * float(np.mean([record.parsed is None for record in here])),
                "truncated": 100 * float(np.mean([record.truncated for record in here])),
                "tokens": float(np.mean([record.tokens for record in here])),
            }
        return {
            "kind": variant.kind,
            "source": variant.label,
            "scale": variant.scale,
            "tuned": variant.tuned,
            "norm": variant.norm,
            "norm_ratio_to_average": variant.norm_ratio_to_average,
            "cosine_to_average": variant.cosine_to_average,
            "average": self._compared(variant.name, None),
            "tasks": tasks,
        }

    def _compared(self, variant: str, task: str | None) -> dict[str, Any]:
        items = self.items.values() if task is None else [self.items[task]]
        return {
            "score": self.score(variant, task),
            "n": sum(len(names) for names in items),
            "vs_student": self._versus(variant, self.student.name, task),
            "vs_best_single": self._versus(variant, self.best_single.name, task),
        }

    def _versus(self, variant: str, other: str, task: str | None = None) -> dict[str, Any] | None:
        if variant == other:
            return None
        differences = self.differences(variant, other)
        if task is not None:
            differences = [differences[self.tasks.index(task)]]
        return _interval(paired_difference(differences, unit=_POINTS))

    def _behaviours(self, variant: str) -> dict[str, float]:
        shown: dict[str, list[float]] = {}
        for seed in self.seeds[variant]:
            for record in self.outcome.records[variant, seed]:
                for key, value in record.extra.items():
                    if key.startswith(BEHAVIOUR):
                        shown.setdefault(key.removeprefix(BEHAVIOUR), []).append(value)
        return {name: 100 * float(np.mean(values)) for name, values in sorted(shown.items())}


def _overall(tables: Mapping[str, _Domain]) -> dict[str, Any]:
    def named(which: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        return {
            "name": "; ".join(f"{domain}: {entry['name']}" for domain, entry in which),
            "score": float(np.mean([entry["score"] for _, entry in which])),
        }

    return {
        "student": float(np.mean([table.score(table.student.name) for table in tables.values()])),
        "best_single": named([(name, table.named(table.best_single)) for name, table in tables.items()]),
        "best_merge": named([(name, table.named(table.best_merge)) for name, table in tables.items()]),
        "gain_over_best_single": _combined(
            [table.differences(table.best_merge.name, table.best_single.name) for table in tables.values()]
        ),
        "gain_over_student": _combined(
            [table.differences(table.best_merge.name, table.student.name) for table in tables.values()]
        ),
    }


def _combined(domains: Sequence[Sequence[Array]]) -> dict[str, Any]:
    """Mean over domains of a difference: a seed's value is its mean over domains, so that seeds stay paired."""
    weights = [1 / (len(domains) * len(tasks)) for tasks in domains for _ in tasks]
    differences = [task for tasks in domains for task in tasks]
    return _interval(paired_difference(differences, weights=weights, unit=_POINTS))


def _interval(difference: Difference) -> dict[str, Any]:
    return {
        "mean": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "seed_noise": difference.seed_noise,
        "detectable": minimum_detectable_effect(difference),
    }


def _selection(selection: Selection) -> dict[str, Any]:
    return {
        "scores": {
            name: {f"{scale:g}": 100 * score for scale, score in grid.items()}
            for name, grid in selection.scores.items()
        },
        "best_scale": dict(selection.scale),
        "at_edge": list(selection.at_edge),
    }


def rounded(value: Any) -> Any:
    """Plain values with all numbers rounded, so that equal results are equal bytes on every machine."""
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return value
