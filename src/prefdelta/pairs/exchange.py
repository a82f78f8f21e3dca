"""Pairs from and to the files of other tools: JSON Lines, Parquet, and folders that ``datasets`` saved."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import check_as_written
from prefdelta.core.outputs import check_file, check_output, staged_folder, write_output
from prefdelta.core.records import Pair, alike, read_some, to_json
from prefdelta.pairs.layouts import FORMS, convert
from prefdelta.pairs.sources import read_source
from prefdelta.pairs.trl import KNOWN, Form, to_trl


def import_pairs(
    source: Path, output: Path, *, format: str = "trl", split: str | None = None, overwrite: bool = False
) -> str:
    """Read other tools' pairs and write ``output``, one pair a line.

    Args:
        source: a file or folder as :func:`prefdelta.pairs.sources.read_source` reads them.
        output: the file to write.
        format: a name in :data:`prefdelta.pairs.layouts.FORMS`.
        split: of a folder with several splits.
        overwrite: replace a file that is there already.

    Returns:
        In words: how many pairs there are, and what was left out.

    Raises:
        PrefdeltaError: the file cannot be read, half of its rows or more are bad, or two rows have one id.
    """
    check_file(output, inputs=[source], overwrite=overwrite)
    found = convert(read_source(source, split), FORMS.find(format), stem=_stem(source))
    found.check(source, format)
    if len({pair.id for pair in found.pairs}) < len(found.pairs):
        raise PrefdeltaError(f"two rows of {source} have one id; ids must differ, or be left out.")
    content = "".join(to_json(pair) + "\n" for pair in found.pairs)
    write_output(output, content, inputs=[source], overwrite=overwrite)
    told = [f"{len(found.pairs)} pairs"]
    if found.undecided:
        told.append(f"{found.undecided} rows prefer neither answer")
    if found.bad:
        told.append(f"{len(found.bad)} bad rows left out, the first: {found.bad[0]}")
    if same := sum(alike(pair.chosen, pair.rejected) for pair in found.pairs):
        told.append(f"{same} of them prefer an answer to itself, which teaches nothing and is left out of training")
    ignored = sorted(found.columns - KNOWN) if format == "trl" else []
    if ignored:
        told.append(f"columns left out: {', '.join(ignored)}")
    return "; ".join(told)


def _stem(source: Path) -> str:
    """What rows without ids are named after."""
    name = source.name.partition(".")[0] or source.name
    return source.resolve().parent.name if name == "dataset" else name


def export_pairs(source: Path, output: Path, *, form: Form = "conversational", overwrite: bool = False) -> str:
    """Write a file of pairs as TRL's rows: ``.jsonl``, ``.parquet``, or else a folder for ``datasets``.

    Returns:
        In words: how many rows there are, and in how many answers TRL will read more than the model wrote.

    Raises:
        PrefdeltaError: the pairs cannot be read, do not fit the form, or the output cannot be written.
    """
    whole = output.suffix in (".jsonl", ".parquet")
    (check_file if whole else check_output)(output, inputs=[source], overwrite=overwrite)
    pairs = read_some(source, Pair)
    check_as_written(source)
    rows = [to_trl(pair, form) for pair in pairs]
    if output.suffix == ".jsonl":
        content = "".join(to_json(row) + "\n" for row in rows)
        write_output(output, content, inputs=[source], overwrite=overwrite)
    else:
        _save(rows, output, overwrite)
    samples = [sample for pair in pairs for sample in (pair.chosen, pair.rejected)]
    read = sum(any(span.source == "environment" for span in sample.spans) for sample in samples)
    cut = sum(sample.finish == "length" for sample in samples)
    told = [f"{len(rows)} rows"]
    if read:
        told.append(f"{read} answers hold search results, which TRL trains on like the rest")
    if cut:
        told.append(f"{cut} answers were cut off, which TRL teaches to end there")
    return "; ".join(told)


def _save(rows: Sequence[Mapping[str, Any]], output: Path, overwrite: bool) -> None:
    # Here and not above, because importing it takes seconds that every other command would pay as well.
    import datasets

    table = datasets.Dataset.from_list([dict(row) for row in rows])
    if output.suffix == ".parquet":
        content = io.BytesIO()
        table.to_parquet(content)
        write_output(output, content.getvalue(), overwrite=overwrite)
    else:
        with staged_folder(output, overwrite=overwrite) as working:
            table.save_to_disk(str(working))
