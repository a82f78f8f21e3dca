"""The rows that stages hand to one another, and how they lie on disk (JSON Lines, one object a line).

Every row is a frozen dataclass of plain values, so that a file can be read with nothing but ``json``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import read_objects

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}
Finish = Literal["stop", "length", "unknown"]
Source = Literal["model", "environment"]


@dataclass(frozen=True)
class Item:
    """A question: a training prompt (``answers`` may be empty) or a benchmark item (``answers`` are the golds).

    ``id`` is stable across runs and machines; comparisons join on it.
    """

    id: str
    task: str
    messages: tuple[Message, ...]
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """One passage of a search corpus."""

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True)
class Span:
    """A stretch of an assistant turn. ``source`` says who wrote it: the model, or the search environment.

    Environment spans are what the model read, not what it said: training masks them.
    """

    text: str
    source: Source = "model"


@dataclass(frozen=True)
class Sample:
    """One answer of one model to one item.

    ``finish`` is ``"stop"`` when the model ended its turn itself, ``"length"`` when the token or turn budget ended it,
    and ``"unknown"`` where that is not known of an answer that came from elsewhere. Only a stopped sample is trained
    to emit the end-of-turn token, and only ``"length"`` counts as cut off.
    ``tokens`` counts the tokens that the model itself wrote. ``index`` tells several answers to one item apart.
    """

    item: str
    spans: tuple[Span, ...]
    finish: Finish
    tokens: int
    thinking: bool = False
    index: int = 0

    @property
    def text(self) -> str:
        """The whole assistant turn, observations included."""
        return "".join(span.text for span in self.spans)

    @property
    def own_text(self) -> str:
        """Only what the model wrote: answers are parsed from this, never from what it was shown."""
        return "".join(span.text for span in self.spans if span.source == "model")


def alike(one: Sample, other: Sample) -> bool:
    """Whether two answers say the same and, as far as is known, end the same way."""
    return one.spans == other.spans and (one.finish == other.finish or "unknown" in (one.finish, other.finish))


@dataclass(frozen=True)
class Score:
    """How good an answer is held to be: ``item`` and ``index`` are its sample's, and a higher ``score`` is better."""

    item: str
    index: int
    score: float


@dataclass(frozen=True)
class Pair:
    """A preference: to ``prompt``, ``chosen`` is preferred over ``rejected``."""

    id: str
    task: str
    prompt: tuple[Message, ...]
    chosen: Sample
    rejected: Sample

    @property
    def responses(self) -> tuple[Sample, ...]:
        """Chosen, rejected."""
        return self.chosen, self.rejected


@dataclass(frozen=True)
class Triple:
    """What WRPO learns from: ``source`` and ``target`` are both preferred over ``rejected``.

    ``source`` is the best answer of all source models; ``target`` and ``rejected`` are the best and the worst of the
    target model's own (arXiv 2412.03187).
    """

    id: str
    task: str
    prompt: tuple[Message, ...]
    source: Sample
    target: Sample
    rejected: Sample

    @property
    def responses(self) -> tuple[Sample, ...]:
        """Source, target, rejected."""
        return self.source, self.target, self.rejected


@dataclass(frozen=True)
class Demonstration:
    """One answer to imitate: what supervised fine-tuning reads where there is nothing to compare it with."""

    id: str
    task: str
    prompt: tuple[Message, ...]
    response: Sample

    @property
    def responses(self) -> tuple[Sample, ...]:
        """The one response."""
        return (self.response,)


Example: TypeAlias = Demonstration | Pair | Triple
"""A row to train on."""


@dataclass(frozen=True)
class Record:
    """One scored answer: benchmark ``task``, item ``item``, ``score`` in [0, 1].

    ``parsed`` is the answer the scorer found, ``None`` when there was none (``unparsed``). ``prompt_hash`` is of the
    messages asked. The first ``answer_start`` characters of ``output`` are reasoning (thoughts between ``<think>`` and
    ``</think>``); a thought that was not finished is all reasoning. ``scorer`` names what gave the score. Items of one
    ``group`` (questions about one passage, turns of one conversation) are not independent of one another; without a
    group an item stands for itself. An empty text says that it is not known.
    """

    task: str
    item: str
    score: float
    parsed: str | None
    output: str
    truncated: bool
    tokens: int
    extra: Mapping[str, float] = field(default_factory=dict)
    prompt_hash: str = ""
    answer_start: int = 0
    scorer: str = ""
    group: str = ""

    @property
    def unparsed(self) -> bool:
        """Whether the scorer found no answer."""
        return self.parsed is None

    @property
    def reasoning(self) -> str:
        """The part of the output that was thought."""
        return self.output[: self.answer_start]

    @property
    def answer(self) -> str:
        """The part of the output that was said."""
        return self.output[self.answer_start :]


RECORDS = "records.jsonl"
"""The file that records lie in."""

Row = TypeVar("Row", Item, Document, Sample, Score, Pair, Triple, Demonstration, Record)


def to_json(value: Any) -> str:
    """One canonical JSON line: sorted keys, no spaces, so that equal values have equal bytes."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def write_rows(path: Path, rows: Iterable[Any]) -> None:
    """Write rows as JSON Lines."""
    with path.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(to_json(row) + "\n")


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read JSON Lines written by :func:`write_rows`, or by a user.

    Raises:
        PrefdeltaError: the file is missing, a line is no JSON object, or a column is missing or unknown.
    """
    return list(_iterate(path, kind))


def read_some(path: Path, kind: type[Row]) -> list[Row]:
    """:func:`read_rows` of a file that a user names, and that says nothing if it is empty.

    Raises:
        PrefdeltaError: as :func:`read_rows`, or there are no rows.
    """
    rows = read_rows(path, kind)
    if not rows:
        raise PrefdeltaError(f"{path} is empty; it should hold {kind.__name__} rows.")
    return rows


def read_examples(path: Path) -> list[Example]:
    """Read rows to train on: triples, pairs or demonstrations, told apart by the columns of the first one.

    Raises:
        PrefdeltaError: the file is empty, or not of one of these kinds throughout.
    """
    _, columns = next(read_objects(path), (0, None))
    if columns is None:
        raise PrefdeltaError(f"{path} holds no examples: it is empty.")
    if "source" in columns:
        return [*_iterate(path, Triple)]
    if "response" in columns:
        return [*_iterate(path, Demonstration)]
    if "chosen" in columns:
        return [*_iterate(path, Pair)]
    raise PrefdeltaError(f"{path} does not begin with a pair, a triple or a demonstration.")


def _iterate(path: Path, kind: type[Row]) -> Iterator[Row]:
    for number, value in read_objects(path):
        try:
            yield row_from(value, kind)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"no column {error}" if isinstance(error, KeyError) else str(error)
            raise PrefdeltaError(f"{path}, line {number}: not a {kind.__name__} row ({reason}).") from error


_RESPONSES: dict[type, tuple[str, ...]] = {
    Pair: ("chosen", "rejected"),
    Triple: ("source", "target", "rejected"),
    Demonstration: ("response",),
}


def row_from(value: Mapping[str, Any], kind: type[Row]) -> Row:
    """Build a row from its JSON object; numbers as ids become texts.

    Raises:
        TypeError, ValueError, KeyError: a column is missing, unknown, or has a value of another kind.
    """
    fields = dict(value)
    for name in ("id", "item"):
        if type(fields.get(name)) is int:
            fields[name] = str(fields[name])
    if kind is Item:
        fields["messages"] = _messages(fields["messages"])
        fields["answers"] = _texts("answers", fields.get("answers", ()))
    elif kind is Sample:
        fields.setdefault("finish", "unknown")
        fields.setdefault("tokens", 0)
        fields["spans"] = tuple(Span(**_checked(span, Span)) for span in fields["spans"])
    elif kind in _RESPONSES:
        fields["prompt"] = _messages(fields["prompt"])
        fields.update({name: row_from(fields[name], Sample) for name in _RESPONSES[kind]})
    elif kind is Record:
        _check_numbers(fields)
    elif kind is Score and "score" in fields:
        check_number(fields["score"], "score")
    return kind(**_checked(fields, kind))


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
    "str | None": ((str, type(None)), "a text or null"),
}
_WORDS: dict[str, tuple[str, ...]] = {"Finish": get_args(Finish), "Source": get_args(Source)}


def _checked(fields: Any, kind: type) -> Mapping[str, Any]:
    """The fields, if those of plain types have values of these types."""
    for column in dataclasses.fields(kind):
        expected, told = _KINDS.get(str(column.type), (object, ""))
        found = fields.get(column.name, column)
        if found is not column and (
            not isinstance(found, expected) or (isinstance(found, bool) and expected not in (bool, object))
        ):
            raise TypeError(f"{column.name!r} is {repr(found)[:60]}, not {told}")
        words = _WORDS.get(str(column.type))
        if words and found is not column and found not in words:
            raise ValueError(f"{column.name} is {repr(found)[:60]}, none of {', '.join(words)}")
    return dict(fields)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("the messages are not a list")
    for message in value:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise TypeError(f"a message is not a role and a text: {repr(message)[:80]}")
    return tuple(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
        raise TypeError(f"{name!r} is not a list of texts")
    return tuple(value)


def _check_numbers(record: Mapping[str, Any]) -> None:
    for name, most in (("score", 1.0), ("tokens", math.inf)):
        if name in record:
            check_number(record[name], name, 0, most)
    extra = record.get("extra", {})
    if not isinstance(extra, Mapping):
        raise TypeError(f"'extra' is {repr(extra)[:60]}, not an object of numbers")
    for name, found in extra.items():
        check_number(found, f"extra {name}")


def check_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is no finite number in a range; JSON as Python reads it may hold NaN and infinities.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a finite number")
    if not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
        raise ValueError(f"{name} is {value!r}, not a number {bounds}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name.name: _plain(getattr(value, name.name)) for name in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value
