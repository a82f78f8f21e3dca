"""Reading verdicts."""

from __future__ import annotations

import math

import pytest

from prefdelta.judging.verdicts import chosen_letter, labelled, rating
from prefdelta.openai_client import Completion


def reply(text: str, *likely: dict[str, float]) -> Completion:
    return Completion(text, "stop", logprobs=tuple(likely))


@pytest.mark.parametrize(
    ("text", "label", "first", "weight"),
    [
        ("My final verdict is tie: [[A=B]]", "A=B", 0.5, 1),
        ("Assistant A is significantly better: [[A>>B]].", "A>>B", 1.0, 3),
        ("[[A>B]]\nOn reflection, I change it to:\n**[[B>A]]**", "B>A", 0.0, 1),
        ("[[B>>A]]", "B>>A", 0.0, 3),
        ("[[A<B]]", "B>A", 0.0, 1),
        ("[[B<<A]]", "A>>B", 1.0, 3),
        ("[[B=A]]", "A=B", 0.5, 1),
        ("<think>I lean to [[B>>A]]</think>A it is. [[A>B]]", "A>B", 1.0, 1),
    ],
)
def test_labels(text: str, label: str, first: float, weight: int) -> None:
    verdict = labelled(reply(text))
    assert verdict is not None
    assert (verdict.label, verdict.first, verdict.weight) == (label, first, weight)


@pytest.mark.parametrize(
    "text",
    ["", "A is better.", "[[A]]", "[[A>C]]", "[[A>B]", "[[=]]", "[[A>>>B]]", "<think>[[A>B]] so far", "[[ A>B ]]"],
)
def test_no_label(text: str) -> None:
    assert labelled(reply(text)) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[8.5]] out of 10, not [[3]]", 8.5),
        ("Rating: [6]", 6),
        ("see [1], Rating: [[10]]", 10),
        ("<think>perhaps [[2]]</think>[[9]]", 9),
        ("Rating: 7", None),
        ("[[0]]", None),
        ("[[11]]", None),
        ("[[rating]]", None),
        ("", None),
    ],
)
def test_ratings(text: str, value: float | None) -> None:
    assert rating(reply(text)) == value


def test_letters_are_weighted_by_their_probability() -> None:
    verdict = chosen_letter(reply("m", {"m": math.log(0.6), "M": math.log(0.2), "The": math.log(0.1)}))
    assert verdict is not None
    assert (verdict.label, verdict.first) == ("m", pytest.approx(0.75))
    spaced = chosen_letter(reply("M", {" m": math.log(0.1), "m": math.log(0.1), "M": math.log(0.6)}))
    assert spaced is not None
    assert spaced.first == pytest.approx(0.25)


def test_a_letter_that_is_not_among_the_likeliest_has_probability_0() -> None:
    verdict = chosen_letter(reply("M", {"M": -0.001}))
    assert verdict is not None
    assert (verdict.label, verdict.first) == ("M", 0.0)


@pytest.mark.parametrize(("text", "first"), [("m", 1.0), (" M\n", 0.0), ("model m", None), ("", None)])
def test_without_logprobs_the_letter_itself_counts(text: str, first: float | None) -> None:
    verdict = chosen_letter(reply(text))
    assert (verdict.first if verdict else None) == first


def test_logprobs_without_a_letter_are_no_verdict() -> None:
    assert chosen_letter(reply("m", {"The": -0.1, "I": -3.0})) is None
