"""AlpacaEval's output files: a list of one model's answers to 805 instructions (github.com/tatsu-lab/alpaca_eval)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Item, Sample, Span, digest


def load(path: Path, columns: Sequence[str] = ("instruction", "output")) -> list[dict[str, Any]]:
    """The entries of the file.

    Raises:
        PrefdeltaError: the file cannot be read, holds no list, or an entry lacks one of the columns.
    """
    try:
        rows = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise PrefdeltaError(f"{path} is no AlpacaEval file ({error}).") from error
    if not isinstance(rows, list):
        raise PrefdeltaError(f"{path} is no AlpacaEval file: it holds no list of entries.")
    for number, row in enumerate(rows):
        missing = [name for name in columns if not isinstance(row, dict) or name not in row]
        if missing:
            raise PrefdeltaError(f"{path}, entry {number}: no {missing[0]!r}; it is no AlpacaEval file.")
    return rows


def item_id(instruction: str) -> str:
    """An instruction's name: files have none, and list the same instructions in different orders."""
    return digest(instruction)[:16]


def items(path: Path) -> list[Item]:
    """The instructions; there are no gold answers."""
    return [
        Item(
            item_id(row["instruction"]),
            str(row.get("dataset", "alpaca_eval")),
            ({"role": "user", "content": row["instruction"]},),
        )
        for row in load(path)
    ]


def samples(path: Path) -> list[Sample]:
    """The answers. The file does not say whether one was cut off, nor how many tokens it has."""
    return [
        Sample(item_id(row["instruction"]), (Span(row["output"]),) if row["output"] else (), "stop", tokens=0)
        for row in load(path)
    ]
