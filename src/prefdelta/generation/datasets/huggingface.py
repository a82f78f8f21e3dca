"""Questions from a data set on the Hugging Face Hub, or from a local file or folder that ``datasets`` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError, did_you_mean
from prefdelta.core.files import expanded
from prefdelta.core.records import Item
from prefdelta.generation.datasets.choices import letters, with_options
from prefdelta.recipe import Questions

_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
_WHOLE = "train"  # what datasets calls the content of one file; also the split where none is named


def load(questions: Questions) -> tuple[list[Item], bool]:
    """Read the items, and say whether they are one split of many (else: the whole of an undivided file).

    An item's id is its column ``id`` or, where there is none, split and row number.

    Raises:
        PrefdeltaError: the data set, its split or a column cannot be found; the message has the library's reason.
    """
    rows, split_already = _rows(questions)
    known = list(rows.column_names)
    for column in _columns(questions):
        if column not in known:
            raise PrefdeltaError(
                f"the data set {questions.source} has no column {column!r}; {did_you_mean(column, known)}"
            )
    prefix = _split(questions) if split_already else "row"
    return [_item(row, questions, f"{prefix}-{number}") for number, row in enumerate(rows)], split_already


def _rows(questions: Questions) -> tuple[Any, bool]:
    # Here and not above, because importing it takes seconds that every other command would pay as well.
    import datasets

    path = expanded(questions.source)
    split = _split(questions)
    try:
        if path.is_file():
            if path.suffix not in _BUILDERS:
                raise PrefdeltaError(f"cannot read {path} as a data set; give one of {', '.join(_BUILDERS)}.")
            return datasets.load_dataset(_BUILDERS[path.suffix], data_files=str(path), split=_WHOLE), False
        if path.is_dir() and any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(str(path))
            if isinstance(saved, datasets.Dataset):
                return saved, False
            if split not in saved:
                raise PrefdeltaError(f"{path} has no split {split!r}; {did_you_mean(split, saved)}")
            return saved[split], True
        source = str(path) if path.is_dir() else questions.source
        return datasets.load_dataset(source, questions.config, split=split, revision=questions.revision), True
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise PrefdeltaError(
            f"cannot load the data set {questions.source!r}: {reason.rstrip('.')}. Check name, config, split and "
            "network, or give the path of a local copy."
        ) from error


def _split(questions: Questions) -> str:
    return questions.split or _WHOLE


def _columns(questions: Questions) -> list[str]:
    choices = (questions.choices,) if isinstance(questions.choices, str) else questions.choices or ()
    return [name for name in (questions.question, questions.answer, questions.aliases, *choices) if name is not None]


def _item(row: Mapping[str, Any], questions: Questions, number: str) -> Item:
    asked = str(row[questions.question])
    golds = _texts(row[questions.answer]) if questions.answer is not None else []
    if questions.choices is not None:
        options, labels = _options(row, questions)
        asked, golds = with_options(asked, options), [_letter(gold, options, labels, questions) for gold in golds]
    if questions.aliases is not None:
        golds += _texts(row[questions.aliases])
    return Item(
        id=str(row.get("id", number)),
        task=Path(questions.source).stem,
        messages=({"role": "user", "content": asked},),
        answers=tuple(dict.fromkeys(golds)),
    )


def _options(row: Mapping[str, Any], questions: Questions) -> tuple[list[str], list[str]]:
    """Options as they are shown, and the names that the data set itself may call them by."""
    if isinstance(questions.choices, str):
        value = row[questions.choices]
        if isinstance(value, Mapping):  # ARC: {"text": [...], "label": [...]}
            return _texts(value["text"]), _texts(value["label"])
        options = _texts(value)
        return options, [str(place) for place in range(len(options))]
    # One column an option, the right one always the same: shown in an order fixed by a hash.
    names = sorted(questions.choices or (), key=lambda name: _key(str(row[questions.question]), str(row[name])))
    return [str(row[name]) for name in names], names


def _letter(gold: str, options: Sequence[str], labels: Sequence[str], questions: Questions) -> str:
    shown = letters(len(options))
    if not isinstance(questions.choices, str) and questions.answer in labels:
        return shown[labels.index(questions.answer)]
    for names in (labels, options, list(shown)):
        if gold in names:
            return shown[list(names).index(gold)]
    raise PrefdeltaError(f"{questions.source}: the answer {gold!r} is none of the options {list(options)}.")


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(entry) for entry in value] if isinstance(value, list | tuple) else [str(value)]


def _key(question: str, option: str) -> bytes:
    return hashlib.sha256(f"{question}\n{option}".encode()).digest()
