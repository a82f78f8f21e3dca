"""Rows of preference data files: JSON Lines, JSON, Parquet, and folders that ``datasets`` saved.

Strangers' files have bad rows. A row that cannot be read is told beside the others, so that its reader can count it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdelta.core.compression import suffix_of
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.files import expanded
from prefdelta.core.jsonl import lines_of, parse_json, read_json


@dataclass(frozen=True)
class SourceRow:
    """One row of a file: ``where`` it is, its place from 0, and its ``columns`` or what is wrong with it."""

    where: str
    place: int
    columns: dict[str, Any] | None
    trouble: str = ""


def read_source(source: Path, split: str | None = None) -> Iterator[SourceRow]:
    """All rows of a file or folder, in order.

    Args:
        source: ``.jsonl``, ``.json`` (a list, or JSON Lines all the same), either of them compressed by gzip, bzip2 or
            xz; ``.parquet``; or a folder that ``datasets`` saved.
        split: of a folder with several splits.

    Raises:
        PrefdeltaError: the file as a whole cannot be read, or is of none of these kinds.
    """
    source = expanded(source)
    suffix = suffix_of(source)
    if source.is_dir():
        yield from _columnar(_saved(source, split), "row")
    elif source.suffix == ".parquet":
        yield from _columnar(_parquet(source), "row")
    elif suffix == ".json" and not _is_lines(source):
        entries = read_json(source)
        if not isinstance(entries, list):
            raise PrefdeltaError(f"{source} holds no list of rows.")
        yield from _columnar(entries, "entry")
    elif suffix in (".jsonl", ".json"):
        for place, (number, line) in enumerate(lines_of(source)):
            yield _parsed(line, f"line {number}", place)
    else:
        raise PrefdeltaError(
            f"cannot read {source}; give a .jsonl or .json file (also as .gz, .bz2 or .xz), a .parquet file, or a "
            "folder of datasets."
        )


def _is_lines(path: Path) -> bool:
    """Whether a file holds one object a line, whatever its name says."""
    first = next(lines_of(path), (0, b""))[1]
    try:
        return isinstance(parse_json(first), dict)
    except ValueError:
        return False


def _parsed(line: bytes, where: str, place: int) -> SourceRow:
    try:
        value = parse_json(line)
    except ValueError as error:
        return SourceRow(where, place, None, f"not valid JSON ({error})")
    return _row(value, where, place)


def _row(value: Any, where: str, place: int) -> SourceRow:
    return SourceRow(where, place, value) if isinstance(value, dict) else SourceRow(where, place, None, "not an object")


def _columnar(rows: Any, kind: str) -> Iterator[SourceRow]:
    for place, row in enumerate(rows):
        yield _row(row, f"{kind} {place}", place)


def _saved(folder: Path, split: str | None) -> Any:
    # Here and not above, because importing it takes seconds that every other command would pay as well.
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"{folder} is no folder that datasets saved ({error}).") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise PrefdeltaError(f"{folder} has several splits; name one: {did_you_mean(str(split), found)}")
        found = found[split]
    return found


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_table(str(path)).to_pylist())
    except (OSError, pyarrow.ArrowException) as error:
        raise PrefdeltaError(f"cannot read {path} ({error}).") from error
