"""The layout of a file of questions or answers, told by its content: AlpacaEval, GSM8K, MMLU-Pro, or our own rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefdelta.core.compression import suffix_of
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import exists, expanded
from prefdelta.core.jsonl import read_json, read_objects
from prefdelta.core.names import list_names

Published = Literal["mmlu-pro", "gsm8k-solutions", "alpaca-eval"]

_TABLES = (".csv", ".parquet")
_DATA_SET = (
    "set format=huggingface and question=COLUMN (for a command --set prompts.format=…, for evaluate questions.format=…)"
)
_COLUMNS: dict[Published, set[str]] = {
    "mmlu-pro": {"question_id", "question", "options", "answer", "generated_text"},
    "gsm8k-solutions": {"question", "ground_truth"},
    "alpaca-eval": {"instruction", "output"},
}
"""What tells a published layout: columns that each of its rows has."""


def question_layout(source: str) -> Published | Literal["items"]:
    """The layout of a file of questions whose format nobody named.

    Raises:
        PrefdeltaError: there is no such file, it cannot be read, or it is in none of the layouts; the message says
            which setting reads it.
    """
    path, there = expanded(source), exists(source)
    if (there and path.is_dir()) or path.suffix in _TABLES:
        raise PrefdeltaError(f"{source} is a data set; {_DATA_SET}.")
    if not there:
        if path.is_absolute() or suffix_of(path) in (".jsonl", ".json", ".zip"):
            raise PrefdeltaError(f"cannot read {source}: No such file or directory.")
        raise PrefdeltaError(
            f"cannot read {source}: there is no such file; for a data set of the Hugging Face Hub, {_DATA_SET}."
        )
    row = _first_row(path)
    found = _published(path, row)
    if found is not None:
        return found
    if row and "messages" not in row:
        raise PrefdeltaError(
            f"{source} holds no items: its first row has {list_names(sorted(row))}, and no messages; to read it as a "
            f"data set, {_DATA_SET}."
        )
    return "items"


def answer_layout(path: Path) -> Published | Literal["samples"]:
    """The layout of a file of answers.

    Raises:
        PrefdeltaError: it cannot be read.
    """
    return _published(path, _first_row(path)) or "samples"


def _published(path: Path, row: dict[str, Any]) -> Published | None:
    if path.suffix == ".zip":
        return "mmlu-pro"
    return next((name for name, columns in _COLUMNS.items() if columns <= row.keys()), None)


def _first_row(path: Path) -> dict[str, Any]:
    """The first row of a JSON list or of JSON Lines; empty where there is none."""
    if path.suffix == ".zip":
        return {}
    if suffix_of(path) == ".json":
        rows = read_json(path)
        first = rows[0] if isinstance(rows, list) and rows else rows
        return first if isinstance(first, dict) else {}
    return next((row for _, row in read_objects(path)), {})
