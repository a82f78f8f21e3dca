"""How our own lm_eval tasks read an answer: only what is marked as one counts.

lm_eval sees texts, not whether a text was cut off. So nothing is guessed from a text's end (its last number, its last
letter), which in a cut-off derivation is an intermediate result: an answer is what a box, an ``<answer>`` or "the
answer is" marks, the last of them. Everything else is unparsed, which reports show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefdelta.core.records import Sample, Span
from prefdelta.evaluation import extraction
from prefdelta.evaluation.extraction import formal_mark, marked_letter, stated_number, stated_text
from prefdelta.evaluation.lm_eval.loading import INVALID
from prefdelta.evaluation.scoring import final_number


def number(text: str) -> str | None:
    """What the last box, ``<answer>`` or ``####`` holds, or else the number that "the answer is …" names."""
    marked = formal_mark(text)
    if marked is not None:
        return marked.strip()
    stated = stated_number(text)
    return str(stated) if stated is not None else None


def tagged(text: str) -> str | None:
    """The text of the last ``<answer>...</answer>``."""
    mark = extraction.tagged(text)
    return mark.text if mark is not None else None


def _filter(parse: Callable[[str], str | None]) -> Callable[[Sequence[Sequence[str]], Sequence[Any]], list[list[str]]]:
    def apply(responses: Sequence[Sequence[str]], documents: Sequence[Any]) -> list[list[str]]:
        return [[parse(text) or INVALID for text in group] for group in responses]

    return apply


numbers = _filter(number)
letter_choices = _filter(marked_letter)
tagged_texts = _filter(tagged)
sentences = _filter(stated_text)


def same_number(document: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """1 if the parsed answer and the gold one are the same number, or the same text but for spaces."""
    marked = Sample("", (Span(f"<answer>{results[0]}</answer>"),), "stop", tokens=0)
    return {"exact_match": final_number(marked, (document["answer"],)).value}


def same_mathematics(document: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """1 if the two expressions are equal by the rules of Hendrycks et al. 2021, or the same number."""
    from lm_eval.tasks.hendrycks_math.utils import is_equiv

    equal = bool(is_equiv(results[0], document["answer"]))
    return {"exact_match": max(float(equal), same_number(document, results)["exact_match"])}


def same_text(document: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """1 if the two texts are equal, spaces at the ends and case aside."""
    return {"exact_match": float(results[0].strip().casefold() == document["answer"].strip().casefold())}
