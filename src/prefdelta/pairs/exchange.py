"""Pairs from and to the files of other tools: JSON Lines, Parquet, and folders that ``datasets`` saved."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError, did_you_mean
from prefdelta.pairs.judged import read_judged
from prefdelta.pairs.trl import KNOWN, Form, from_trl, to_trl
from prefdelta.records import Pair, read_rows, to_json
from prefdelta.store import replace_text


def import_pairs(source: Path, output: Path, *, format: str = "trl", split: str | None = None) -> str:
    """Read other tools' pairs and write ``output``, one pair a line.

    Args:
        source: a ``.jsonl``, ``.json`` or ``.parquet`` file, or a folder that ``datasets`` saved.
        output: the file to write.
        format: ``trl``, or a key of :data:`prefdelta.pairs.judged.FORMS`.
        split: of a folder with several splits.

    Returns:
        In words: how many pairs there are, and what was left out.

    Raises:
        PrefdeltaError: the file cannot be read, a row cannot be held by a pair, or two rows have one id.
    """
    if format == "trl":
        rows = list(_read(source, split))
        pairs = [from_trl(row, f"{source.stem}-{number}") for number, row in enumerate(rows)]
        ignored = sorted({column for row in rows for column in row} - KNOWN)
        left_out = f"; columns left out: {', '.join(ignored)}" if ignored else ""
    else:
        pairs, undecided = read_judged(source, format)
        left_out = f"; {undecided} rows prefer neither answer" if undecided else ""
    if not pairs:
        raise PrefdeltaError(f"{source} holds no pair.")
    if len({pair.id for pair in pairs}) < len(pairs):
        raise PrefdeltaError(f"two rows of {source} have one id; ids must differ, or be left out.")
    replace_text(output, "".join(to_json(pair) + "\n" for pair in pairs))
    return f"{len(pairs)} pairs{left_out}"


def export_pairs(source: Path, output: Path, *, form: Form = "conversational") -> str:
    """Write a file of pairs as TRL's rows: ``.jsonl``, ``.parquet``, or else a folder for ``datasets``.

    Returns:
        In words: how many rows there are, and in how many answers TRL will read more than the model wrote.

    Raises:
        PrefdeltaError: the pairs cannot be read, do not fit the form, or the folder is there already.
    """
    pairs = read_rows(source, Pair)
    rows = [to_trl(pair, form) for pair in pairs]
    if output.suffix == ".jsonl":
        replace_text(output, "".join(to_json(row) + "\n" for row in rows))
    else:
        _save(rows, output)
    samples = [sample for pair in pairs for sample in (pair.chosen, pair.rejected)]
    read = sum(any(span.source == "environment" for span in sample.spans) for sample in samples)
    cut = sum(sample.finish == "length" for sample in samples)
    told = [f"{len(rows)} rows"]
    if read:
        told.append(f"{read} answers hold search results, which TRL trains on like the rest")
    if cut:
        told.append(f"{cut} answers were cut off, which TRL teaches to end there")
    return "; ".join(told)


def _save(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    # Here and not above, because importing it takes seconds that every other command would pay as well.
    import datasets

    table = datasets.Dataset.from_list([dict(row) for row in rows])
    working = output.with_name(f".{output.name}.partial")
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".parquet":
        table.to_parquet(str(working))
    elif output.exists():
        raise PrefdeltaError(f"{output} is there already; remove it, or name another folder.")
    else:
        table.save_to_disk(str(working))
    os.replace(working, output)


def _read(source: Path, split: str | None) -> Iterator[dict[str, Any]]:
    if source.is_dir():
        yield from _saved(source, split)
    elif source.suffix == ".parquet":
        yield from _parquet(source)
    elif source.suffix in (".jsonl", ".json"):
        yield from _json(source)
    else:
        raise PrefdeltaError(f"cannot read {source}; give a .jsonl, .json or .parquet file, or a folder of datasets.")


def _saved(folder: Path, split: str | None) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"{folder} is no folder that datasets saved ({error}).") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise PrefdeltaError(f"{folder} has several splits; name one: {did_you_mean(str(split), found)}")
        found = found[split]
    yield from found


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        yield from pyarrow.parquet.read_table(str(path)).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise PrefdeltaError(f"cannot read {path} ({error}).") from error


def _json(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdeltaError(f"cannot read {path} ({error}).") from error
    if path.suffix == ".json":
        yield from _objects(text, f"{path}", whole=True)
    for number, line in enumerate(text.split("\n") if path.suffix == ".jsonl" else (), 1):
        if line.strip():
            yield from _objects(line, f"{path}, line {number}", whole=False)


def _objects(text: str, where: str, *, whole: bool) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise PrefdeltaError(f"{where}: not valid JSON ({error}).") from error
    rows = value if whole else [value]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PrefdeltaError(f"{where}: not {'a list of rows' if whole else 'a row'}.")
    return rows
