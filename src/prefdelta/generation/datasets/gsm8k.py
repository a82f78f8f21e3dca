"""GSM8K's example solutions: four systems' graded answers to its test questions (github.com/openai/grade-school-math).

Each line has a ``question``, a ``ground_truth`` and, for each system, ``{"solution": ..., "is_correct": ...}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.files import expanded
from prefdelta.core.jsonl import read_objects
from prefdelta.core.records import Item, Sample, Score, Span, digest


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of the file.

    Raises:
        PrefdeltaError: the file cannot be read, or a line has no question and ground truth.
    """
    rows = []
    for number, row in read_objects(expanded(path)):
        missing = [name for name in ("question", "ground_truth") if name not in row]
        if missing:
            raise PrefdeltaError(f"{path}, line {number}: no {missing[0]!r}; it holds no GSM8K example solutions.")
        rows.append({**row, "question": str(row["question"]), "ground_truth": str(row["ground_truth"])})
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
    if system is None:
        raise PrefdeltaError(
            f"{path} has solutions of several systems: {', '.join(known)}; name one, in a recipe by system, in a "
            "command by --set chosen.system=NAME, rejected.system=NAME or responses.system=NAME."
        )
    if system not in known:
        raise PrefdeltaError(f"{path} has no solutions of the system {system!r}; {did_you_mean(system, known)}")
    for number, row in enumerate(rows, 1):
        found = row.get(system)
        if not isinstance(found, dict) or not isinstance(found.get("solution"), str) or "is_correct" not in found:
            raise PrefdeltaError(f"{path}, row {number}: no graded solution of {system!r}.")
        if not isinstance(found["is_correct"], bool):
            raise PrefdeltaError(f"{path}, row {number}: is_correct is {str(found['is_correct'])[:40]!r}, no verdict.")
    return [(row, system) for row in rows]


def _id(row: dict[str, Any]) -> str:
    return digest(row["question"])[:16]
