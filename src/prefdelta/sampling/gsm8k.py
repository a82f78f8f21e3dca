"""GSM8K's example solutions: four systems' graded answers to its test questions (github.com/openai/grade-school-math).

Each line has a ``question``, a ``ground_truth`` and, for each system, ``{"solution": ..., "is_correct": ...}``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError, did_you_mean
from prefdelta.records import Item, Sample, Score, Span, digest


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of the file.

    Raises:
        PrefdeltaError: the file cannot be read, or a line has no question and ground truth.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            rows.append({**row, "question": str(row["question"]), "ground_truth": str(row["ground_truth"])})
        except (ValueError, KeyError, TypeError) as error:
            raise PrefdeltaError(f"{path}, line {number}: no GSM8K example solutions ({error!r}).") from error
    if not rows:
        raise PrefdeltaError(f"{path} holds no GSM8K example solutions.")
    return rows


def systems(rows: list[dict[str, Any]]) -> list[str]:
    """The systems that answered."""
    return [name for name, value in rows[0].items() if isinstance(value, dict) and "solution" in value]


def items(path: Path) -> list[Item]:
    """The questions; the gold answer is the number at the end of the ground truth."""
    return [
        Item(
            _id(row),
            "gsm8k",
            ({"role": "user", "content": row["question"]},),
            (row["ground_truth"].rpartition("A:")[2].strip(),),
        )
        for row in load(path)
    ]


def samples(path: Path, system: str | None) -> list[Sample]:
    """One system's solutions.

    Raises:
        PrefdeltaError: no system of that name answered.
    """
    return [
        Sample(_id(row), (Span(row[name]["solution"]),), "stop", tokens=0) for row, name in _of_system(path, system)
    ]


def verdicts(path: Path, system: str | None) -> list[Score]:
    """Whether each of one system's solutions is right, as its publishers say: 1 or 0."""
    return [Score(_id(row), 0, float(row[name]["is_correct"])) for row, name in _of_system(path, system)]


def _of_system(path: Path, system: str | None) -> list[tuple[dict[str, Any], str]]:
    rows = load(path)
    known = systems(rows)
    if system not in known:
        raise PrefdeltaError(f"{path} has no solutions of the system {system!r}; {did_you_mean(str(system), known)}")
    return [(row, str(system)) for row in rows]


def _id(row: dict[str, Any]) -> str:
    return digest(row["question"])[:16]
