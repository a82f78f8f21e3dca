"""The rows that stages hand to one another, and how they lie on disk (JSON Lines, one object a line).

Every row is a frozen dataclass of plain values, so that a file can be read with nothing but ``json``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from prefdelta.errors import PrefdeltaError

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}


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
    source: Literal["model", "environment"] = "model"


@dataclass(frozen=True)
class Sample:
    """One answer of one model to one item.

    ``finish`` is ``"stop"`` when the model ended its turn itself and ``"length"`` when the token or turn budget
    ended it; only a stopped sample is trained to emit the end-of-turn token.
    ``tokens`` counts the tokens that the model itself wrote.
    """

    item: str
    spans: tuple[Span, ...]
    finish: Literal["stop", "length"]
    tokens: int
    thinking: bool = False

    @property
    def text(self) -> str:
        """The whole assistant turn, observations included."""
        return "".join(span.text for span in self.spans)

    @property
    def own_text(self) -> str:
        """Only what the model wrote: answers are parsed from this, never from what it was shown."""
        return "".join(span.text for span in self.spans if span.source == "model")


@dataclass(frozen=True)
class Pair:
    """A preference: to ``prompt``, ``chosen`` is preferred over ``rejected``."""

    id: str
    task: str
    prompt: tuple[Message, ...]
    chosen: Sample
    rejected: Sample


@dataclass(frozen=True)
class Record:
    """One scored answer: benchmark ``task``, item ``item``, ``score`` in [0, 1].

    ``parsed`` is the answer the scorer found, ``None`` when there was none (``unparsed``).
    """

    task: str
    item: str
    score: float
    parsed: str | None
    output: str
    truncated: bool
    tokens: int
    extra: Mapping[str, float] = field(default_factory=dict)


Row = TypeVar("Row", Item, Document, Sample, Pair, Record)


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


def _iterate(path: Path, kind: type[Row]) -> Iterator[Row]:
    try:
        handle = path.open(encoding="utf-8")
    except OSError as error:
        raise PrefdeltaError(f"cannot read {path}: {error.strerror}.") from error
    with handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                yield row_from(json.loads(line), kind)
            except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
                raise PrefdeltaError(f"{path}, line {number}: not a {kind.__name__} row ({error}).") from error


def row_from(value: Mapping[str, Any], kind: type[Row]) -> Row:
    """Build a row from its JSON object."""
    fields = dict(value)
    if kind is Item:
        fields["messages"] = tuple(fields["messages"])
        fields["answers"] = tuple(fields.get("answers", ()))
    elif kind is Sample:
        fields["spans"] = tuple(Span(**span) for span in fields["spans"])
    elif kind is Pair:
        fields["prompt"] = tuple(fields["prompt"])
        fields["chosen"] = row_from(fields["chosen"], Sample)
        fields["rejected"] = row_from(fields["rejected"], Sample)
    return kind(**fields)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name.name: _plain(getattr(value, name.name)) for name in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value
