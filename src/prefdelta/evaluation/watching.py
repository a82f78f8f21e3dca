"""What a merge changes that nobody asked for, and which of its deltas causes it.

Side effects are looked for where the merge was not meant to act: is something forgotten, do answers grow longer, do
they lose the form that can be read, is more refused? For each delta the merge is made once more without it; what the
merge does and the merge without the delta does not do is that delta's doing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.results import rounded
from prefdelta.evaluation.statistics import Array, paired_difference
from prefdelta.records import Record

STUDENT = "student"
MERGE = "merge"
WITHOUT = "without-"

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:cannot|can't|can not|won't|will not)\b|as an ai\b)", re.IGNORECASE
)
_PER_CENT = 100.0  # the most that one answer can change a measure that is in per cent
_OPENING = 200  # characters; further in, such words are rarely a refusal

MEASURES: Mapping[str, Callable[[Record], float]] = MappingProxyType(
    {
        "score": lambda record: 100 * record.score,
        "tokens": lambda record: float(record.tokens),
        "unparsed": lambda record: 100.0 * record.unparsed,
        "truncated": lambda record: 100.0 * record.truncated,
        "refused": lambda record: 100.0 * refuses(record.answer),
    }
)
"""What is watched of every answer; all but ``tokens`` in per cent."""


def refuses(answer: str) -> bool:
    """Whether an answer opens as refusals do; a rough sign, in English."""
    return _REFUSAL.search(answer.strip().replace("’", "'")[:_OPENING]) is not None


def watch_summary(records: Mapping[tuple[str, int], Sequence[Record]]) -> dict[str, Any]:
    """By watched task and measure: the student, the merge, the change, and what each delta causes of it.

    Args:
        records: by (``student``, ``merge`` or ``without-DELTA``, training seed); all of the same items.

    Returns:
        task -> measure -> ``student`` and ``merge`` (means), ``change`` (merge minus student) and ``caused_by`` (delta
        -> merge minus the merge without it), the differences as ``{"mean", "low", "high", "seed_noise"}``.

    Raises:
        PrefdeltaError: the variants did not answer the same items, or fewer than two of a task.
    """
    variants = list(dict.fromkeys(name for name, _ in records))
    seeds = list(dict.fromkeys(seed for _, seed in records))
    tasks = list(dict.fromkeys(record.task for record in records[STUDENT, seeds[0]]))
    deltas = [name.removeprefix(WITHOUT) for name in variants if name.startswith(WITHOUT)]
    summary: dict[str, Any] = {}
    for task in tasks:
        summary[task] = {}
        for measure, value in MEASURES.items():
            seen = {name: _matrix(records, name, seeds, task, value) for name in variants}
            unit = 0.0 if measure == "tokens" else _PER_CENT
            summary[task][measure] = {
                STUDENT: float(seen[STUDENT].mean()),
                MERGE: float(seen[MERGE].mean()),
                "change": _difference(seen[MERGE], seen[STUDENT], unit),
                "caused_by": {delta: _difference(seen[MERGE], seen[WITHOUT + delta], unit) for delta in deltas},
            }
    return dict(rounded(summary))


def _matrix(
    records: Mapping[tuple[str, int], Sequence[Record]],
    name: str,
    seeds: Sequence[int],
    task: str,
    value: Callable[[Record], float],
) -> Array:
    """(seeds, items), items in the order of their ids."""
    rows = []
    items = sorted(record.item for record in records[STUDENT, seeds[0]] if record.task == task)
    for seed in seeds:
        found = {record.item: value(record) for record in records[name, seed] if record.task == task}
        if sorted(found) != items:
            raise PrefdeltaError(
                f"watched task {task!r}: {name!r} and the student did not answer the same items; run the recipe again."
            )
        rows.append([found[item] for item in items])
    return np.array(rows, dtype=np.float64)


def _difference(ours: Array, theirs: Array, unit: float) -> dict[str, Any]:
    found = paired_difference([ours - theirs], unit=unit)
    return {"mean": found.mean, "low": found.low, "high": found.high, "seed_noise": found.seed_noise}
