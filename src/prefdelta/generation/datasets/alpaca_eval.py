"""AlpacaEval's output files: a list of one model's answers to 805 instructions (github.com/tatsu-lab/alpaca_eval)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.jsonl import read_json
from prefdelta.core.records import Finish, Item, Sample, Span, digest

_CLOSED = (".", "!", "?", "…", "。", "！", "？", ")", "]", "}", ">", '"', "”", "»", "'", "’", "`", "*")


def load(path: Path, columns: Sequence[str] = ("instruction", "output")) -> list[dict[str, Any]]:
    """The entries of the file.

    Raises:
        PrefdeltaError: the file cannot be read, holds no list, or an entry lacks one of the columns.
    """
    rows = read_json(expanded(path))
    if not isinstance(rows, list):
        raise PrefdeltaError(f"{path} is no AlpacaEval file: it holds no list of entries.")
    for number, row in enumerate(rows):
        missing = [name for name in columns if not isinstance(row, dict) or name not in row]
        if missing:
            raise PrefdeltaError(f"{path}, entry {number}: no {missing[0]!r}; it is no AlpacaEval file.")
        odd = [name for name in ("instruction", "output") if name in columns and not isinstance(row[name], str)]
        if odd:
            raise PrefdeltaError(f"{path}, entry {number}: {odd[0]!r} is {str(row[odd[0]])[:40]!r}, not a text.")
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
    """The answers. The file does not say how many tokens one has, nor whether it was cut off: :func:`finish_of`."""
    return [
        Sample(
            item_id(row["instruction"]),
            (Span(row["output"]),) if row["output"] else (),
            finish_of(row["output"]),
            tokens=0,
        )
        for row in load(path)
    ]


def finish_of(text: str) -> Finish:
    """How an answer ended, as far as its text tells: ``stop`` where a sentence, a bracket, a quotation or a block of
    code is closed at its end. Anything else may have been cut off."""
    return "stop" if text.rstrip().endswith(_CLOSED) else "unknown"
