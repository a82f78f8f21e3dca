"""Thoughts (``<think> ... </think>`` and what other models write for it) in answers that were given with thinking off,
or whose files do not say.

A template opens the answer of a model that does not think with an empty thought, or none. An answer that holds one all
the same would be learned as an answer, or be a second thought after the template's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefdelta.core.records import Sample, Span

MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""What begins and ends a thought: of most models; Claude; Gemma; Seed; Magistral; Kimi; Sky-T1; Command A; gpt-oss."""

_AGENT = ("<search>", "<answer>")  # a search protocol may ask for thoughts between these


def marks_of(text: str, more: Sequence[tuple[str, str]] = ()) -> tuple[str, str]:
    """The marks of the thought that a text begins with, or ends one that the template had begun; else the usual ones.

    ``more`` are marks besides :data:`MARKS`.
    """
    begun = text.lstrip()
    known = (*MARKS, *more)
    found = next((marks for marks in known if begun.startswith(marks[0])), None)
    return found or next(
        ((opened, closed) for opened, closed in known if closed in text and opened not in text.partition(closed)[0]),
        MARKS[0],
    )


def holds_thought(text: str) -> bool:
    """Whether a text begins with a thought, or ends one that the template had begun."""
    opened, closed = marks_of(text)
    return text.lstrip().startswith(opened) or (closed in text and opened not in text.partition(closed)[0])


def stray_thought(sample: Sample) -> bool:
    """Whether an answer with thinking off holds a thought, other than an agent's between its searches."""
    return not sample.thinking and holds_thought(sample.own_text) and not any(tag in sample.own_text for tag in _AGENT)


def answer_start(text: str, *, thinking: bool = False) -> int:
    """Where the answer begins: after the last finished thought; the end of a text whose thought was not finished.

    With ``thinking`` a text without marks is such a thought, which the template had begun.
    """
    opened, closed = marks_of(text)
    place = text.rfind(closed)
    if place >= 0:
        return place + len(closed)
    return len(text) if thinking or text.lstrip().startswith(opened) else 0


def after_thoughts(text: str, *, thinking: bool = False) -> str:
    """What comes after the last thought; nothing if it was not finished. ``thinking``: as of :func:`answer_start`."""
    start = answer_start(text, thinking=thinking)
    return (text[start:].lstrip("\n") if start else text).partition(marks_of(text)[0])[0]


def without_thought(sample: Sample) -> Sample:
    """The answer alone; an answer whose thought was not finished is empty."""
    said = after_thoughts(sample.text)
    return replace(sample, spans=(Span(said),) if said else ())
