"""What a merge changes that nobody asked for, and which of its deltas causes it.

Side effects are looked for where the merge was not meant to act: is something forgotten, do answers grow longer, do
they lose the form that can be read, is more refused? For each delta the merge is made once more without it; what the
merge does and the merge without the delta does not do is that delta's doing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from prefdelta.core.records import Record
from prefdelta.evaluation.repetition import repetition
from prefdelta.evaluation.results import Watched
from prefdelta.evaluation.score_table import POINTS, ScoreTable

STUDENT = "student"
MERGE = "merge"
WITHOUT = "without-"

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:cannot|can't|can not|won't|will not)\b|as an ai\b)", re.IGNORECASE
)
_OPENING = 200  # characters; further in, such words are rarely a refusal

MEASURES: Mapping[str, Callable[[Record], float]] = MappingProxyType(
    {
        "score": lambda record: 100 * record.score,
        "tokens": lambda record: float(record.tokens),
        "unparsed": lambda record: 100.0 * record.unparsed,
        "truncated": lambda record: 100.0 * record.truncated,
        "refused": lambda record: 100.0 * refuses(record.answer),
        "repeated": lambda record: 100.0 * repetition(record.answer),
    }
)
"""What is watched of every answer; all but ``tokens`` in per cent."""


def refuses(answer: str) -> bool:
    """Whether an answer opens as refusals do; a rough sign, in English."""
    return _REFUSAL.search(answer.strip().replace("’", "'")[:_OPENING]) is not None


def watch_summary(records: Mapping[tuple[str, int], Sequence[Record]]) -> dict[str, dict[str, Watched]]:
    """By watched task and measure: the student, the merge, the change, and what each delta causes of it.

    Args:
        records: by (``student``, ``merge`` or ``without-DELTA``, training seed); all of the same items.

    Raises:
        PrefdeltaError: the variants did not answer the same items, or fewer than two of a task.
    """
    table = ScoreTable.from_records(
        dict(sorted(records.items(), key=lambda entry: entry[0][0] != STUDENT)), where="watched tasks: "
    )
    deltas = [name.removeprefix(WITHOUT) for name in table.models if name.startswith(WITHOUT)]
    summary: dict[str, dict[str, Watched]] = {task: {} for task in table.tasks}
    for measure, value in MEASURES.items():
        measured = table.measured(value, unit=0.0 if measure == "tokens" else POINTS)
        for task in table.tasks:
            summary[task][measure] = Watched(
                student=measured.score(STUDENT, task),
                merge=measured.score(MERGE, task),
                change=measured.interval(MERGE, STUDENT, task),
                caused_by={delta: measured.interval(MERGE, WITHOUT + delta, task) for delta in deltas},
            )
    return summary
