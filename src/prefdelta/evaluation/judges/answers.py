"""Reading questions and models' answers in the layouts that benchmarks publish them in, and in ours.

A row that cannot be read is counted and told, never a crash: benchmark files are written by many hands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.http import well_formed
from prefdelta.core.loose_rows import loose_rows
from prefdelta.core.records import RECORDS, Record, Sample, row_from
from prefdelta.evaluation.scoring import answer_text
from prefdelta.generation.datasets.alpaca_eval import item_id

Row = Mapping[str, Any]

_IN_FOLDERS = ("answers.jsonl", RECORDS, "responses.jsonl")  # of answer, evaluate and sample


@dataclass(frozen=True)
class Question:
    """A question of one or more user turns."""

    id: str
    turns: tuple[str, ...]
    category: str = ""


@dataclass(frozen=True)
class Answered:
    """A model's answers to the turns of one question; ``tokens`` where the file tells them."""

    id: str
    turns: tuple[str, ...]
    tokens: int | None = None


@dataclass(frozen=True)
class Answers:
    """The answers of one model, by question id, and what was wrong with the rows that could not be read."""

    model: str
    rows: Mapping[str, Answered]
    malformed: tuple[str, ...]


def read_answers(path: Path) -> Answers:
    """Read a model's answers.

    Args:
        path: AlpacaEval's ``model_outputs.json`` (a question's id is then a hash of its instruction), a
            ``model_answer`` file of Arena-Hard or MT-Bench, or our ``answers.jsonl``, ``records.jsonl`` or
            ``responses.jsonl`` or the folder of one of these. Of ours only the answer is taken, not the
            thinking before it.

    Raises:
        PrefdeltaError: the file is missing, or no row in it can be read.
    """
    if path.is_dir():
        found = read_answers(answers_file(path))
        return Answers(path.resolve().name, found.rows, found.malformed)
    names: list[str] = []

    def parse(row: Row) -> Answered:
        answered, name = _answered(row)
        names.append(name)
        return answered

    rows, malformed = _collected(path, parse)
    return Answers(next(filter(None, names), "") or path.stem, rows, malformed)


def answers_file(path: Path) -> Path:
    """The file of answers that a path stands for: itself, or the one in a folder that a command of ours wrote.

    Raises:
        PrefdeltaError: the folder holds none.
    """
    if not path.is_dir():
        return path
    for name in _IN_FOLDERS:
        if (path / name).is_file():
            return path / name
    raise PrefdeltaError(f"{path} holds none of {', '.join(_IN_FOLDERS)}; name the file of answers.")


def read_questions(path: Path) -> tuple[dict[str, Question], tuple[str, ...]]:
    """Read questions, by id and in their order: Arena-Hard's or MT-Bench's, AlpacaEval's, or our items.

    Raises:
        PrefdeltaError: the file is missing, or no row in it can be read.
    """
    return _collected(path, _question)


_Parsed = TypeVar("_Parsed", Question, Answered)


def _collected(path: Path, parse: Callable[[Row], _Parsed]) -> tuple[dict[str, _Parsed], tuple[str, ...]]:
    rows: dict[str, _Parsed] = {}
    malformed = []
    for row in loose_rows(path, halves=True):
        where = f"{path.name}, {row.where}"
        if row.columns is None:
            malformed.append(f"{where}: {row.trouble}")
            continue
        try:
            parsed = parse(row.columns)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            malformed.append(f"{where}: {type(error).__name__} {str(error)[:80]}".rstrip())
            continue
        if parsed.id in rows:
            malformed.append(f"{where}: {parsed.id!r} is there twice")
        else:
            rows[parsed.id] = parsed
    if not rows:
        first = f" ({malformed[0]})" if malformed else ""
        raise PrefdeltaError(f"no row of {path} can be read{first}; docs/judging.md lists the layouts.")
    return rows, tuple(malformed)


def _question(row: Row) -> Question:
    if "instruction" in row:
        asked = _text(row["instruction"])
        return Question(item_id(asked), (asked,), _named(row, "dataset"))
    if "prompt" in row and "uid" in row:
        return Question(str(row["uid"]), (_text(row["prompt"]),), _named(row, "category"))
    if "question_id" in row:
        return Question(str(row["question_id"]), _turns(row["turns"]), _named(row, "category"))
    if "messages" not in row:
        raise ValueError("none of the known layouts")
    messages = [(message["role"], _text(message["content"])) for message in row["messages"]]
    whole = messages[0][1] if len(messages) == 1 else "\n\n".join(f"{role}: {text}" for role, text in messages)
    return Question(str(row["id"]), (whole,), _named(row, "task"))


def _answered(row: Row) -> tuple[Answered, str]:
    """The answers of one row, and the model's name."""
    if "instruction" in row:
        return Answered(item_id(_text(row["instruction"])), (_text(row["output"]),)), _named(row, "generator")
    if "choices" in row:
        return Answered(str(row["question_id"]), _turns(row["choices"][0]["turns"])), _named(row, "model_id")
    if "messages" in row:
        said = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        tokens = (row.get("metadata") or {}).get("token_len")
        if tokens is not None and type(tokens) is not int:
            raise TypeError(f"token_len is {tokens!r}")
        name = str(row["uid"] if "uid" in row else row["question_id"])
        return Answered(name, _turns(said), tokens), _named(row, "model")
    if "spans" in row:
        sample = row_from(row, Sample)
        return Answered(sample.item, (_text(answer_text(sample)),)), ""
    if "output" not in row:
        raise ValueError("none of the known layouts")
    record = row_from(row, Record)
    return Answered(record.item, (_text(record.output)[record.answer_start :],)), ""


def _named(row: Row, column: str) -> str:
    """A name that a row may lack, or leave empty."""
    return str(row.get(column) or "")


def _turns(turns: Any) -> tuple[str, ...]:
    if not turns or isinstance(turns, str):
        raise ValueError("no turns")
    return tuple(_text(turn) for turn in turns)


def _text(value: Any) -> str:
    """A text, also where a layout wraps it: ``{"content": ...}``, ``{"answer": ...}``."""
    if isinstance(value, Mapping):
        value = value["answer"] if "answer" in value else value["content"]
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return well_formed(value)
