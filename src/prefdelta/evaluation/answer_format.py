"""Whether an answer has the form that was asked for."""

from __future__ import annotations

import re

from prefdelta.core.records import Sample
from prefdelta.core.thoughts import marks_of, stray_thought

_TAG = re.compile(r"</?(?:search|answer)>")


def has_format(sample: Sample, rule: str | None) -> bool:
    """Whether an answer keeps a format rule; ``None`` asks for nothing.

    ``finished``: the answer was not cut off, as far as is known. ``answer-tags``: neither was it, and what the model
    wrote is any number of closed ``<search>`` s, then one ``<answer>...</answer>``, and nothing after.
    """
    if rule is None:
        return True
    if sample.finish == "length":
        return False
    if rule == "finished":
        return True
    thought = sample.thinking or stray_thought(sample)
    text = sample.own_text.rpartition(marks_of(sample.own_text)[1])[2].rstrip() if thought else sample.own_text.rstrip()
    tags = _TAG.findall(text)
    searches, answer = tags[:-2], tags[-2:]
    return (
        text.endswith("</answer>")
        and answer == ["<answer>", "</answer>"]
        and searches == ["<search>", "</search>"] * (len(searches) // 2)
    )
