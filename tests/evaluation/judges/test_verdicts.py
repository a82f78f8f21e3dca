"""Reading verdicts."""

from __future__ import annotations

import math

import pytest

from prefdelta.evaluation.judges.benchmarks import labelled_rule
from prefdelta.evaluation.judges.prompts import Template
from prefdelta.evaluation.judges.verdicts import chosen_letter, decided, labelled, rating, sided
from prefdelta.generation.completion import Completion


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
    ("text", "label"),
    [
        ("Assistant B is more thorough. [[B]]", "B>A"),
        ("I would not say [[B]].\n[[A]]", "A>B"),
        ("A tie: [[C]]", "A=B"),
        ("[[A>B]]", None),
        ("<thinking>My verdict: [[A]]", None),
        ("[THINK]My verdict: [[A]][/THINK]My verdict: [[B]]", "B>A"),
        ("<seed:think>My verdict: [[A]]", None),
        ("<|channel|>analysis<|message|>My verdict: [[A]]<|end|>", None),
        ("<reasoning>My verdict: [[A]]", None),
        ("Verdict: [[A]] or maybe [[B]]", None),
        ("The choices are [[A]], [[B]] and [[C]]", None),
        ("A is better.", None),
    ],
)
def test_labels_of_fastchat(text: str, label: str | None) -> None:
    verdict = sided(reply(text))
    assert (verdict and verdict.label) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("1. Response 1 is short.\nSo, the final decision is Response 2.", "B>A"),
        ("So, the final decision is Response 1. It answers all that was asked.", "A>B"),
        ("So, the final decision is tie.", "A=B"),
        ("Response 1 is better.", None),
        ("The final decision is open.", None),
        ("The final decision is Response 1 or Response 2.", None),
        ("So, the final decision is **Response 2**.", "B>A"),
        ("I shall say: the final decision is Response 1 / Response 2 / Tie.", None),
    ],
)
def test_decisions_of_auto_j(text: str, label: str | None) -> None:
    verdict = decided(reply(text))
    assert (verdict and verdict.label) == label


@pytest.mark.parametrize(
    ("end", "read"),
    [
        ('"[[A]]" if A is better, "[[B]]" if B is better, and "[[C]]" for a tie', sided),
        ("End with: So, the final decision is Response 1 / Response 2 / Tie.", decided),
        ("[[A>B]] or [[B>A]] after: my final decision is ", labelled),
        ("Which is better?", labelled),
    ],
)
def test_the_prompt_decides_how_the_verdict_is_read(end: str, read: object) -> None:
    assert labelled_rule(Template("", end)).read is read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[8.5]] out of 10, not [[3]]", 8.5),
        ("Rating: [6]", 6),
        ("see [1], Rating: [[10]]", 10),
        ("<think>perhaps [[2]]</think>[[9]]", 9),
        ("A [[10]] would need a proof.\nRating: [[4]]", 4),
        ("I cannot give [[10]].", None),
        ("Rating: 7", None),
        ("[[0]]", None),
        ("[[11]]", None),
        ("[[rating]]", None),
        ("Assistant A: [[8]]; Assistant B: [[6]]", None),
        ("Rating: [[8]] or [[9]]", None),
        ("Rating: [[8]]-[[9]]", None),
        ("Between [[6]] and [[7]].", None),
        ("Rating: [[8]] would be too much, so [[6]].", 6),
        ("Helpful: [[8]], exact: [[6]]. Overall rating: [[7]]", 7),
        ("", None),
    ],
)
def test_ratings(text: str, value: float | None) -> None:
    assert rating(reply(text)) == value


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Answer A leaks a raw <think> tag into its text, so B reads better.\n\n[[B>A]]", "B>A"),
        ("A leaks <think>a plan</think> into its text.\n\n[[B>A]]", "B>A"),
        ("Let me see.</think>A misses the point. [[B>A]]", "B>A"),
        ("<think>A quotes </think> and [[A>>B]]</think>\n[[B>A]]", "B>A"),
        ("[[A>B]] because A answers what was asked.", "A>B"),
        ("Final verdict: [[A>B]]. Assistant B's answer says: final verdict: [[B>>A]]", "A>B"),
        ("**[[A>B]]**\n\nA is right and B is not.", "A>B"),
        ("My final verdict is: Assistant A is slightly better: [[A>B]]", "A>B"),
        ("My final verdict is that it is a tie: `[[A=B]]`.\n\nBoth are right.", "A=B"),
        ("A reply of [[A>>B]] would need A to be flawless.\n[[A>B]]", "A>B"),
        ("[[B>>A]]\n\nI thought of [[B>A]] first, but A is wrong throughout.", "B>>A"),
        ("The labels are [[A>B]], [[A=B]] and [[B>A]]. Overall: [[A=B]]", "A=B"),
        ("[[A>B]] A is better\n[[A=B]] even\n[[B>A]] B is better\n\nVerdict: [[A=B]]", "A=B"),
    ],
)
def test_a_verdict_that_is_given(text: str, label: str) -> None:
    verdict = labelled(reply(text))
    assert verdict is not None
    assert verdict.label == label


@pytest.mark.parametrize(
    "text",
    [
        "A reply of [[A>>B]] would need A to be flawless, and it is not: A's second claim is wrong",
        "I would lean to [[A>B]] but the second claim is wrong, so that I cannot say.",
        "It is not [[A>B]].",
        "I would choose [[A>B]] over [[B>A]].",
        "Assistant A's answer says: final verdict: [[A>>B]]",
        "I wouldn't say [[A>>B]].",
        "I cannot choose between [[A>B]] and [[B>A]].",
        "It is either [[A>B]] or [[A=B]].",
        "If B were shorter it could be [[B>A]].",
        "B ends with '[[A>B]]' to trick me, and I do not judge such answers",
        'Answer B says "[[B>>A]]"',
        "[[A>>B]] A is clearly better\n[[A>B]] A is better\n[[A=B]] even\n[[B>A]] B is better\nWhich one is it?",
        "I lean to [[A>B]].\nOn the other hand B is complete.",
    ],
)
def test_a_label_that_is_only_mentioned(text: str) -> None:
    assert labelled(reply(text)) is None


@pytest.mark.parametrize("text", ["[[A>B]]", "Weighing both. [[A>>B]]", "Rating: [[7]]"])
def test_a_reply_that_was_cut_off_gives_no_verdict(text: str) -> None:
    cut = Completion(text, "length")
    assert labelled(cut) is None
    assert rating(cut) is None
    unnamed = Completion(text, "unknown")
    assert labelled(unnamed) or rating(unnamed)


def test_thoughts_that_the_server_separates_are_not_looked_for_in_the_text() -> None:
    verdict = labelled(Completion("It quotes </think> and [[A>B]]\n[[B>A]]", "stop", reasoning="[[A>>B]]"))
    assert verdict is not None
    assert verdict.label == "B>A"
    assert labelled(Completion("", "stop", reasoning="[[A>>B]]")) is None


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


@pytest.mark.parametrize(("m", "M"), [(0.0, 1.4e-6), (0.1, 0.1), (0.24, 0.0)])
def test_letters_that_the_judge_hardly_considers_are_no_verdict(m: float, M: float) -> None:
    likely = {"<think>": -0.00001, **{name: math.log(p) for name, p in (("m", m), ("M", M)) if p}}
    assert chosen_letter(reply("<think>", likely)) is None


def test_logprobs_without_a_letter_are_no_verdict() -> None:
    assert chosen_letter(reply("m", {"The": -0.1, "I": -3.0})) is None
