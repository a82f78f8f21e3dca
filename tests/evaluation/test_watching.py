"""Side effects: what the merge changes elsewhere, and which delta does it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record
from prefdelta.evaluation.watching import MEASURES, refuses, watch_summary

ITEMS = range(40)


def answered(*, score: float = 1.0, tokens: int = 10, parsed: str | None = "x", output: str = "x") -> list[Record]:
    return [Record("elsewhere", f"i{number}", score, parsed, output, False, tokens) for number in ITEMS]


def test_each_delta_is_charged_with_what_goes_away_without_it() -> None:
    """Delta a forgets a quarter of the items; delta b makes answers 5 tokens longer; together they do both."""
    forgetful = [replace(record, score=0.0) if n % 4 == 0 else record for n, record in enumerate(answered())]
    both = [replace(record, tokens=15) for record in forgetful]
    records = {
        ("student", 0): answered(),
        ("merge", 0): both,
        ("without-a", 0): answered(tokens=15),
        ("without-b", 0): forgetful,
    }
    summary = watch_summary(records)["elsewhere"]
    assert list(summary) == list(MEASURES)
    assert (summary["score"].student, summary["score"].merge) == (100.0, 75.0)
    assert summary["score"].change.mean == summary["score"].caused_by["a"].mean == -25.0
    unchanged = summary["score"].caused_by["b"]
    assert unchanged.mean == 0.0
    assert unchanged.low < 0.0 < unchanged.high  # a few equal answers do not prove that nothing changed
    assert summary["tokens"].caused_by["a"].mean == 0.0
    assert summary["tokens"].caused_by["b"].mean == summary["tokens"].change.mean == 5.0
    assert summary["score"].change.low < -25.0 < summary["score"].change.high < 0


def test_lost_form_and_refusals_are_seen() -> None:
    records = {
        ("student", 0): answered(),
        ("merge", 0): answered(parsed=None, score=0.0, output="I’m sorry, but I cannot help with that."),
    }
    summary = watch_summary(records)["elsewhere"]
    assert (summary["unparsed"].merge, summary["refused"].student, summary["refused"].merge) == (100, 0, 100)
    assert summary["score"].caused_by == {}


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I'm sorry, I can't do that", True),
        ("As an AI, I have no home", True),
        ("I am unable to say.", True),
        ("She said: sorry!", False),
        ("The answer is 4", False),
        ("", False),
        ("x" * 300 + " I cannot", False),
    ],
)
def test_refusals_open_an_answer(answer: str, refused: bool) -> None:
    assert refuses(answer) is refused


def test_variants_must_have_answered_the_same_items() -> None:
    with pytest.raises(PrefdeltaError, match="watched tasks: 'merge' and 'student' did not answer the same items"):
        watch_summary({("student", 0): answered(), ("merge", 0): answered()[1:]})
