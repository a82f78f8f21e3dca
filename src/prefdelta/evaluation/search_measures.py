"""What is measured of a search conversation beside its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefdelta.core.records import Sample
from prefdelta.evaluation.answer_format import has_format
from prefdelta.evaluation.scoring import normalise


def measures(sample: Sample, answers: Sequence[str], correction: str) -> Mapping[str, float]:
    """Measures of one conversation, in which the environment answered searches, or wrote ``correction``.

    ``format``: the answer is well-formed (the filter ``answer-tags``). ``searches``: how many searches were answered.
    ``recall``: a gold answer occurs in what was found, both normalised as for F1 (1 or 0); only where there are gold
    answers.
    """
    found = [span.text for span in sample.spans if span.source == "environment" and span.text != correction]
    shown: dict[str, float] = {"format": float(has_format(sample, "answer-tags")), "searches": float(len(found))}
    if answers:
        shown["recall"] = float(holds_answer(" ".join(found), answers))
    return shown


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether a gold answer occurs in a text as whole words, both normalised as for F1."""
    read = f" {normalise(text)} "
    return any(f" {gold} " in read for gold in map(normalise, answers) if gold)
