"""Reading published search traces: what was asked, what was found, what was answered, what a judge said.

The form is R1-Searcher's (github.com/RUCAIBox/R1-Searcher): one JSON object a line, with passages between
``<|begin_of_documents|>`` and ``<|end_of_documents|>``: ``(NUMBER)TITLE`` and, after spaces, the text, or
``(NUMBER)Title: TITLE Text: TEXT``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import read_objects
from prefdelta.core.records import Document, Sample, Span, digest

_BLOCK = re.compile(r"(<\|begin_of_documents\|>.*?<\|end_of_documents\|>)", re.DOTALL)
_TAGS = re.compile(r"<\|(?:begin|end)_of_documents\|>")
_PASSAGE = re.compile(r"^\((\d+)\)", re.MULTILINE)
_QUOTED = re.compile(r'"?Title: (.*?) Text: (.*?)"?', re.DOTALL)
_GAP = re.compile(r"\t| {3}")  # between a title and its text


@dataclass(frozen=True)
class Trace:
    """One published conversation. ``judged`` is the verdict of the publisher's judge model on the answer."""

    question: str
    answer: str
    sample: Sample
    judged: bool


def read_traces(path: Path) -> list[Trace]:
    """The traces of a file, in order.

    Raises:
        PrefdeltaError: the file cannot be read, or a line is no trace.
    """
    traces = []
    for number, row in read_objects(path):
        try:
            spans = tuple(
                Span(part, "environment" if _BLOCK.fullmatch(part) else "model")
                for part in _BLOCK.split(row["gen_text_store"])
                if part
            )
            finish = "stop" if row["stop_reason_final"] == "finished" else "length"
            sample = Sample(f"{path.stem}-{number}", spans, finish, tokens=0)  # type: ignore[arg-type]
            traces.append(Trace(row["question"], row["answer"], sample, row["gpt4o_output"] == "True"))
        except (KeyError, TypeError) as error:
            raise PrefdeltaError(f"{path}, line {number}: not a search trace ({error!r}).") from error
    return traces


def passages(traces: Iterable[Trace]) -> list[Document]:
    """All passages that were shown in some traces, each once, in the order of first appearance."""
    found: dict[tuple[str, str], Document] = {}
    for trace in traces:
        for span in trace.sample.spans:
            if span.source == "environment":
                for title, text in _passages(span.text):
                    name = f"p{digest([title, text])[:12]}"
                    found.setdefault((title, text), Document(name, text, title))
    return list(found.values())


def _passages(block: str) -> Iterator[tuple[str, str]]:
    parts = _PASSAGE.split(_TAGS.sub("", block).strip())
    for body in parts[2::2]:
        quoted = _QUOTED.fullmatch(body.strip())
        if quoted:
            yield quoted[1].replace('""', '"').strip(), quoted[2].replace('""', '"').strip()
        else:
            title, _, text = _GAP.sub("\n", body.strip(), count=1).partition("\n")
            yield title.strip(), text.strip()
