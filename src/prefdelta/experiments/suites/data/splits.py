"""Splitting a task's rows once and for all, by a hash of what belongs together.

Nothing random is involved: the order of groups is that of the SHA-256 of their names, so that the splits are the same
on every machine and whatever order the files come in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from prefdelta.experiments.suites.data.rows import Overlay, Row

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.2


def split(rows: Sequence[Row], limits: Mapping[str, int]) -> dict[str, list[Row]]:
    """Rows -> ``pretrain``, ``train``, ``validation`` and ``test``; no group is in two of the last three.

    A source's own test split is kept. Where it has none, a fifth of the groups is the test split; where it has no
    validation split, a fifth of what remains is that. ``pretrain`` is taken from the end of the training rows and
    ``train`` from their beginning, so that they overlap only where a task has too few.

    Args:
        rows: all rows of a task.
        limits: the most rows per split; a split that is not named stays whole, ``pretrain`` empty.
    """
    test = [row for row in rows if row.part == "test"]
    rest = [row for row in rows if row.part != "test"]
    if not test:
        test, rest = _cut(rest, TEST_SHARE)
    validation = [row for row in rest if row.part == "validation"]
    train = [row for row in rest if row.part != "validation"]
    if not validation:
        validation, train = _cut(train, VALIDATION_SHARE)
    train = _ordered(train)
    pool = limits.get("pretrain", 0)
    return {
        "pretrain": train[len(train) - min(pool, len(train)) :],
        "train": train[: limits.get("train", len(train))],
        "validation": _ordered(validation)[: limits.get("validation", len(validation))],
        "test": _ordered(test)[: limits.get("test", len(test))],
    }


def _cut(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """The rows of the first ``share`` of the groups in hash order, and the others."""
    groups = sorted({row.group for row in rows}, key=_hash)
    chosen = set(groups[: max(1, round(share * len(groups)))])
    return [row for row in rows if row.group in chosen], [row for row in rows if row.group not in chosen]


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Rows in an order that mixes the classes: by the hash of group and content."""
    return sorted(rows, key=lambda row: _hash(f"{row.group}\n{_content(row)}\n{row.label}"))


def _content(row: Row) -> str:
    if isinstance(row.content, Overlay):
        return hashlib.sha256(row.content.above).hexdigest()
    return hashlib.sha256(row.content).hexdigest() if isinstance(row.content, bytes) else "\n".join(row.content)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
