"""MMLU-Pro output files: questions, and what a model answered to them (github.com/TIGER-AI-Lab/MMLU-Pro)."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Literal, TypedDict, cast

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Item, Sample, Span
from prefdelta.sampling.choices import with_options

_NEXT_QUESTION = re.compile(r"\n+Question:")


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
    path = path.expanduser()
    try:
        entries = json.loads(_content(path))
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise PrefdeltaError(f"{path} is no MMLU-Pro output file ({error}).") from error
    if not isinstance(entries, list) or not entries:
        raise PrefdeltaError(f"{path} is no MMLU-Pro output file: it holds no list of entries.")
    for number, entry in enumerate(entries):
        missing = [name for name in Entry.__annotations__ if not isinstance(entry, dict) or name not in entry]
        if missing:
            raise PrefdeltaError(f"{path}, entry {number}: no {missing[0]!r}; it is no MMLU-Pro output file.")
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


def sample(entry: Entry) -> Sample:
    """What the model answered, up to where it went on with a question of its own making.

    These were base models, which do not end a turn. An answer counts as stopped if the model began a next question,
    or if the text ends with the blank line before one (which the publisher's stop string removed). How many tokens
    the model wrote is not in the file; ``tokens`` is 0.
    """
    text = entry["generated_text"]
    cut = _NEXT_QUESTION.search(text)
    finish: Literal["stop", "length"] = "stop" if cut or text.endswith("\n\n") else "length"
    said = (text[: cut.start()] if cut else text).strip()
    return Sample(str(entry["question_id"]), (Span(said),) if said else (), finish, tokens=0)


def _content(path: Path) -> bytes:
    if path.suffix != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json")]
        if len(names) != 1:
            raise PrefdeltaError(f"{path} holds {len(names)} .json files, not one.")
        return archive.read(names[0])
