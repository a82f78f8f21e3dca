"""Scores of the same items in the same places, which is what paired comparisons rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.statistics import Array
from prefdelta.records import Record


def aligned_scores(records: Sequence[Record], items: Mapping[str, Sequence[str]], who: str) -> dict[str, Array]:
    """Task -> the scores of its items, in their order.

    Args:
        records: one model's answers.
        items: task -> the items that every model was to answer.
        who: says which two models these are, for the error.

    Raises:
        PrefdeltaError: other items were answered, or one of them twice.
    """
    found = {(record.task, record.item): record.score for record in records}
    wanted = {(task, item) for task, names in items.items() for item in names}
    if found.keys() != wanted or len(found) != len(records):
        differing = sorted(found.keys() ^ wanted)[:1]
        what = f"{differing[0][1]!r} of task {differing[0][0]!r}" if differing else "one that it answered twice"
        raise PrefdeltaError(
            f"{who} did not answer the same items (for example {what}); evaluate both on the same recipe."
        )
    return {task: np.array([found[task, item] for item in names]) for task, names in items.items()}
