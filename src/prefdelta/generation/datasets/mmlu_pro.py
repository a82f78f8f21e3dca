"""MMLU-Pro output files: questions, and what a model answered to them (github.com/TIGER-AI-Lab/MMLU-Pro)."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from prefdelta.core.compression import read_member
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.jsonl import parse_json, read_json
from prefdelta.core.records import Finish, Item, Sample, Span
from prefdelta.core.regular import regular
from prefdelta.generation.datasets.choices import with_options

_BLANK = "\n\n"  # before a next question
_NEXT_QUESTION = re.compile(r"\n+Question:")
_CONCLUSION = re.compile(r"answer is:?\W*[A-J]\W*$", re.IGNORECASE)


class Entry(TypedDict):
    """What is read of one entry; ``answer`` is a letter, ``category`` a subject."""

    question_id: int
    question: str
    options: list[str]
    answer: str
    category: str
    generated_text: str


def load(path: Path) -> list[Entry]:
    """Read a ``.json`` file, or a ``.zip`` that holds one.

    Raises:
        PrefdeltaError: the file cannot be read, or an entry lacks a column.
    """
    path = expanded(path)
    entries = _zipped(path) if path.suffix == ".zip" else read_json(path)
    if not isinstance(entries, list) or not entries:
        raise PrefdeltaError(f"{path} is no MMLU-Pro output file: it holds no list of entries.")
    for number, entry in enumerate(entries):
        missing = [name for name in Entry.__annotations__ if not isinstance(entry, dict) or name not in entry]
        if missing:
            raise PrefdeltaError(f"{path}, entry {number}: no {missing[0]!r}; it is no MMLU-Pro output file.")
        texts = [entry["question"], entry["answer"], entry["category"], entry["generated_text"]]
        options = entry["options"]
        if not isinstance(options, list) or not all(isinstance(text, str) for text in [*texts, *options]):
            raise PrefdeltaError(f"{path}, entry {number}: question, options or answers are not texts.")
    return cast(list[Entry], entries)


def item(entry: Entry) -> Item:
    """The question with its lettered options; the gold answer is the letter, the task is the subject."""
    question = with_options(entry["question"], entry["options"])
    return Item(
        id=str(entry["question_id"]),
        task=entry["category"],
        messages=({"role": "user", "content": question},),
        answers=(entry["answer"],),
    )


def samples(entries: Sequence[Entry]) -> list[Sample]:
    """What the model answered, up to where it went on with a question of its own making.

    The file does not say how an answer ended. A base model does not end a turn: it goes on to a next question, or its
    text ends with the blank line before one (which the publisher's stop string removed). Where most answers of a file
    end so, the others were cut off. Elsewhere a chat model answered, and an answer is known to be whole only if it ends
    with its conclusion. How many tokens the model wrote is not in the file; ``tokens`` is 0.
    """
    texts = [entry["generated_text"] for entry in entries]
    base = 2 * sum(text.endswith(_BLANK) or bool(_NEXT_QUESTION.search(text)) for text in texts) > len(texts)
    return [_sample(entry, base) for entry in entries]


def _sample(entry: Entry, base: bool) -> Sample:
    text = entry["generated_text"]
    cut = _NEXT_QUESTION.search(text)
    said = (text[: cut.start()] if cut else text).strip()
    finish: Finish = "length" if base else "unknown"
    if cut or (base and text.endswith(_BLANK)) or _CONCLUSION.search(said):
        finish = "stop"
    return Sample(str(entry["question_id"]), (Span(said),) if said else (), finish, tokens=0)


def _zipped(path: Path) -> Any:
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            if len(names) != 1:
                raise PrefdeltaError(f"{path} holds {len(names)} .json files, not one.")
            return parse_json(read_member(archive, names[0]))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise PrefdeltaError(f"{path} is no MMLU-Pro output file ({error}).") from error
