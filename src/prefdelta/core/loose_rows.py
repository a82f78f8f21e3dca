"""Rows of JSON files by many hands: a row that cannot be read is told beside the others, so that it can be counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdelta.core.compression import DAMAGED, decompressed, suffix_of
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import lines_of, parse_json, read_json


@dataclass(frozen=True)
class LooseRow:
    """One row of a file: ``where`` it is, its place from 0, and its ``columns`` or what is wrong with it."""

    where: str
    place: int
    columns: dict[str, Any] | None
    trouble: str = ""


def loose_rows(path: Path, *, halves: bool = False) -> Iterator[LooseRow]:
    """All rows of a file in order: of a ``.json`` file that holds a list, else of JSON Lines.

    ``halves`` as in :func:`prefdelta.core.jsonl.parse_json`.

    Raises:
        PrefdeltaError: the file as a whole cannot be read, or is JSON but no list.
    """
    if suffix_of(path) == ".json" and not _is_lines(path):
        entries = read_json(path, halves=halves)
        if not isinstance(entries, list):
            raise PrefdeltaError(f"{path} holds no list of rows.")
        yield from columnar(entries, "entry")
        return
    for place, (number, line) in enumerate(lines_of(path)):
        yield _parsed(line, f"line {number}", place, halves)


def columnar(rows: Iterable[Any], kind: str) -> Iterator[LooseRow]:
    """Values as rows; ``kind`` is what a row is called."""
    for place, row in enumerate(rows):
        yield _row(row, f"{kind} {place}", place)


def _is_lines(path: Path) -> bool:
    """Whether a file holds one object a line, whatever its name says. A list may be one line, however long."""
    try:
        with decompressed(path) as handle:
            if not handle.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                return False
        return isinstance(parse_json(next(lines_of(path))[1]), dict)
    except (OSError, ValueError, *DAMAGED):
        return False  # whoever reads it says what is wrong


def _parsed(line: bytes, where: str, place: int, halves: bool) -> LooseRow:
    try:
        value = parse_json(line, halves=halves)
    except ValueError as error:
        return LooseRow(where, place, None, f"not valid JSON ({error})")
    return _row(value, where, place)


def _row(value: Any, where: str, place: int) -> LooseRow:
    return LooseRow(where, place, value) if isinstance(value, dict) else LooseRow(where, place, None, "not an object")
