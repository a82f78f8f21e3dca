"""Rows of preference data files: JSON Lines, JSON, Parquet, and folders that ``datasets`` saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefdelta.core.compression import suffix_of
from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.files import expanded
from prefdelta.core.loose_rows import LooseRow, columnar, loose_rows
from prefdelta.core.regular import regular


def read_source(source: Path, split: str | None = None) -> Iterator[LooseRow]:
    """All rows of a file or folder, in order.

    Args:
        source: ``.jsonl``, ``.json`` (a list, or JSON Lines all the same), either of them compressed by gzip, bzip2 or
            xz; ``.parquet``; or a folder that ``datasets`` saved.
        split: of a folder with several splits.

    Raises:
        PrefdeltaError: the file as a whole cannot be read, or is of none of these kinds.
    """
    source = expanded(source)
    if source.is_dir():
        yield from columnar(_saved(source, split), "row")
    elif source.suffix == ".parquet":
        yield from columnar(_parquet(source), "row")
    elif suffix_of(source) in (".jsonl", ".json"):
        yield from loose_rows(source)
    else:
        raise PrefdeltaError(
            f"cannot read {source}; give a .jsonl or .json file (also as .gz, .bz2 or .xz), a .parquet file, or a "
            "folder of datasets."
        )


def _saved(folder: Path, split: str | None) -> Any:
    # Here and not above, because importing it takes seconds that every other command would pay as well.
    import datasets

    for path in folder.rglob("*"):
        regular(path)  # which the library would wait for
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
        return list(pyarrow.parquet.read_table(str(regular(path))).to_pylist())
    except (OSError, pyarrow.ArrowException) as error:
        raise PrefdeltaError(f"cannot read {path} ({error}).") from error
