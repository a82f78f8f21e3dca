"""Readers of sentence-pair data sets as they are published."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prefdelta.core.compression import read_member
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import parse_json
from prefdelta.experiments.suites.data.rows import Row, there


def read_json_lines(files: Sequence[Path]) -> Iterator[Row]:
    """JSON Lines of ``premise``, ``hypothesis`` and ``label`` (or ``gold_label``), plain or in a zip archive.

    A premise's pairs stay together.
    """
    for path in files:
        for name, text in _texts(path):
            for number, line in enumerate(text.split("\n"), start=1):
                if line.strip():
                    yield _row(line, f"{name}, line {number}")


def read_sick(files: Sequence[Path]) -> Iterator[Row]:
    """SICK's tables: ``sentence_A``, ``sentence_B``, ``entailment_judgment``. Pairs of one sentence A stay together."""
    for path in files:
        for _, text in _texts(path):
            for record in csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE):
                pair = (record["sentence_A"], record["sentence_B"])
                yield Row(pair, record["entailment_judgment"].strip().lower(), group=pair[0])


SENTENCE_READERS: dict[str, Callable[[Sequence[Path]], Iterator[Row]]] = {
    "json-lines": read_json_lines,
    "sick": read_sick,
}
"""Format -> its reader."""


def _row(line: str, where: str) -> Row:
    try:
        record = dict(parse_json(line))
        premise, hypothesis = str(record["premise"]).strip(), str(record["hypothesis"]).strip()
    except KeyError as error:
        raise PrefdeltaError(f"{where}: no key {error}; a line needs premise, hypothesis and label.") from error
    except (ValueError, TypeError) as error:
        raise PrefdeltaError(f"{where}: not a JSON object ({error}).") from error
    label = record.get("label", record.get("gold_label"))
    if label is None:
        raise PrefdeltaError(f"{where}: no key 'label'.")
    return Row((premise, hypothesis), str(label), group=premise)


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    if there(path).suffix != ".zip":
        yield str(path), path.read_text(encoding="utf-8")
        return
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".jsonl") and not name.startswith("__MACOSX"):
                yield f"{path}:{name}", read_member(archive, name).decode("utf-8")
