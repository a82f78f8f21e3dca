"""The behaviours that the family differs in, and which of them an answer shows, read off its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from prefdelta.core.records import Item, Sample
from prefdelta.micro import arithmetic, questions
from prefdelta.micro.tasks import needs

BEHAVIOURS: Mapping[str, str] = MappingProxyType(
    {
        "steps": "writes the running totals instead of blurting a guess",
        "setup": "restates a sum told in words in digits before working on it, instead of misreading it",
        "check": "recomputes a claimed result instead of trusting it",
        "close": "gives the result in answer tags instead of trailing off",
        "search": "searches instead of answering from memory",
        "query": "searches for the full name instead of the first name alone",
        "retry": "searches again in other words after a miss instead of guessing",
        "hop": "looks up the second fact instead of answering with the first",
    }
)

_QUERY = re.compile(r"<search>(.*?)</search>")
_OBSERVATION = re.compile(r"<information>(.*?)</information>")
_SETUP = re.compile(r"read \d+( [+-]\d)+")
_WORKING = re.compile(r"(sum|check)( \d+){2,}")
_CLOSED = re.compile(r"<answer>.*?</answer>")


def behaviours(item: Item, sample: Sample) -> dict[str, bool]:
    """Behaviour -> whether the answer shows it, for the behaviours that the item gave an occasion for.

    A search behaviour has no occasion when nothing came before it: ``query`` without any search, ``retry`` without a
    miss, ``hop`` without a first search.
    """
    if item.task in arithmetic.TASKS:
        return _arithmetic(item, sample)
    return _research(item, sample)


def _arithmetic(item: Item, sample: Sample) -> dict[str, bool]:
    text = sample.own_text
    working = _WORKING.search(text)
    shown = {
        "setup": bool(_SETUP.match(text)),
        "steps": bool(working) and "sum" in text,
        "check": bool(working) and "check" in text,
        "close": bool(_CLOSED.search(text)) and sample.finish != "length",
    }
    return {behaviour: shown[behaviour] for behaviour in needs(item.task)}


def _research(item: Item, sample: Sample) -> dict[str, bool]:
    question = questions.read(item.messages[-1]["content"])
    queries = _QUERY.findall(sample.own_text)
    found = _OBSERVATION.findall("".join(span.text for span in sample.spans if span.source == "environment"))
    shown = {"search": bool(queries)}
    if not queries:
        return shown
    shown["query"] = question.name in queries[0]
    if question.relay:
        shown["hop"] = len(queries) > 1
    elif found and not questions.finds(found[0], question.attribute):
        shown["retry"] = len(queries) > 1
    return shown
