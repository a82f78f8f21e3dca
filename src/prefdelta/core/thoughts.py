"""Thoughts (``<think> ... </think>``) in answers that were given with thinking off, or whose files do not say.

A template opens the answer of a model that does not think with an empty thought, or none. An answer that holds one all
the same would be learned as an answer, or be a second thought after the template's.
"""

from __future__ import annotations

from dataclasses import replace

from prefdelta.core.records import Sample, Span

OPEN, CLOSE = "<think>", "</think>"
_AGENT = ("<search>", "<answer>")  # a search protocol may ask for thoughts between these


def holds_thought(text: str) -> bool:
    """Whether a text begins with a thought, or ends one that the template had begun."""
    return text.lstrip().startswith(OPEN) or (CLOSE in text and OPEN not in text.partition(CLOSE)[0])


def stray_thought(sample: Sample) -> bool:
    """Whether an answer with thinking off holds a thought, other than an agent's between its searches."""
    return not sample.thinking and holds_thought(sample.own_text) and not any(tag in sample.own_text for tag in _AGENT)


def after_thoughts(text: str) -> str:
    """What comes after the last thought; nothing if it was not finished."""
    _, closed, after = text.rpartition(CLOSE)
    if not closed and text.lstrip().startswith(OPEN):
        return ""
    return (after.lstrip("\n") if closed else text).partition(OPEN)[0]


def without_thought(sample: Sample) -> Sample:
    """The answer alone; an answer whose thought was not finished is empty."""
    said = after_thoughts(sample.text)
    return replace(sample, spans=(Span(said),) if said else ())
