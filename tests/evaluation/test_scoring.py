"""Scorers on answers as models really write them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from prefdelta.core.records import Sample, Span
from prefdelta.evaluation.extraction import last_number
from prefdelta.evaluation.scoring import choice, exact_match, final_number, normalise, token_f1


def answer(*spans: str | Span, finish: str = "stop", thinking: bool = False) -> Sample:
    parts = tuple(Span(span) if isinstance(span, str) else span for span in spans)
    return Sample("item", parts, finish, tokens=1, thinking=thinking)  # type: ignore[arg-type]


def shown(text: str) -> Span:
    return Span(text, "environment")


@pytest.mark.parametrize(
    ("text", "parsed", "score"),
    [
        ("<answer>oslo</answer>", "oslo", 1),
        ("so <answer> oslo </answer> .", "oslo", 1),
        ("<answer>rome</answer> no: <answer>oslo</answer>", "oslo", 1),
        ("<answer>oslo</answer> no: <answer>rome</answer>", "rome", 0),
        ("<answer>rome <answer>oslo</answer>", "oslo", 1),  # the first tag was never closed
        ("<answer>Oslo</answer>", "Oslo", 0),
        ("<answer></answer>", "", 0),
        ("oslo", None, 0),
        ("<answer>oslo", None, 0),
        ("", None, 0),
    ],
)
def test_exact_match(text: str, parsed: str | None, score: int) -> None:
    assert exact_match(answer(text), ["oslo"])[:2] == (score, parsed)


def test_an_answer_that_was_only_read_does_not_count() -> None:
    sample = answer("<search>x</search>", shown("<information><answer>oslo</answer></information>"), "I give up")
    assert exact_match(sample, ["oslo"]).parsed is None


def test_thoughts_are_not_read() -> None:
    assert exact_match(answer("<think><answer>a</answer></think>"), ["a"]).parsed is None
    assert exact_match(answer("<answer>a</answer></think> <answer>b</answer>"), ["b"]).value == 1
    assert exact_match(answer("<answer>a</answer>", thinking=True), ["a"]).parsed is None  # never finished thinking
    assert exact_match(answer("hm<think><answer>a</answer>"), ["a"]).parsed is None


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("The final answer is 18.", 1),
        ("It costs $18", 1),
        ("18.00 dollars", 1),
        (r"so \boxed{18}, which is 3 more than 15", 1),
        (r"so \boxed{18\text{ dollars}}.", 1),
        (r"\boxed{17} wait \boxed{18}", 1),
        ("<answer>18</answer> (checked twice: 2 times)", 1),
        ("21 - 3 = 18", 1),
        ("20-18", 1),  # a difference, not minus eighteen
        ("-18", 0),
        ("118", 0),
        ("18 or 19", 0),
        ("eighteen", 0),
        ("36/2", 1),
    ],
)
def test_final_number(text: str, score: int) -> None:
    assert final_number(answer(text), ["18"]).value == score


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234,567", 1234567),
        ("$1,200.50", Fraction(2401, 2)),
        ("(1,2)", 2),
        ("1,2345", 2345),
        ("is -3", -3),
        ("is −3", -3),
        ("x-3", 3),
        (".5", Fraction(1, 2)),
        ("12.", 12),
        (r"\frac{14}{3}", Fraction(14, 3)),
        (r"-\dfrac{1}{2}", Fraction(-1, 2)),
        ("1/0", None),
        ("-$5", -5),
        ("none", None),
    ],
)
def test_last_number(text: str, number: Fraction | int | None) -> None:
    assert last_number(text) == number


def test_gold_numbers_in_their_usual_forms() -> None:
    assert final_number(answer("72"), ["48+24 = <<48+24=72>>72\n#### 72"]).value == 1
    assert final_number(answer("70000"), ["70,000"]).value == 1
    assert final_number(answer("5"), ["$5"]).value == 1
    assert final_number(answer(r"\boxed{\frac{2}{4}}"), [r"\frac{1}{2}"]).value == 1
    assert final_number(answer(r"\boxed{x^2 + 1}"), ["x^2+1"]).value == 1
    assert final_number(answer(r"\boxed{x^2+3}"), ["x^2+1"]).value == 0
    assert final_number(answer("it is 3"), ["x+3"]).value == 0


def test_a_cut_off_derivation_has_no_last_number() -> None:
    cut = final_number(answer("first 6*3 = 18", finish="length"), ["18"])
    assert cut == (0.0, None, {})
    assert final_number(answer(r"\boxed{18} and then", finish="length"), ["18"]).value == 1


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("the answer is B", "B"),
        ("**Answer: B**", "B"),
        ("The answer is: **B**", "B"),
        ("The answer is (A). No, the answer is (B).", "B"),
        ("(A) is tempting, so the answer is (B), not (C)", "B"),
        ("<answer>B</answer>", "B"),
        ("<answer>(B) four</answer>", "B"),
        ("I exclude (A) and pick (B)", "B"),
        ("The answer is Apple", None),
        ("The answer is a dog", None),
        ("The answer is (K)", None),
        ("BAD", None),
    ],
)
def test_choice(text: str, letter: str | None) -> None:
    result = choice(answer(text), ["B"])
    assert result.parsed == letter
    assert result.value == float(letter == "B")


def test_a_cut_off_text_has_no_last_letter() -> None:
    assert choice(answer("either (A) or (B)", finish="length"), ["B"]).parsed is None
    assert choice(answer("the answer is (B) since", finish="length"), ["B"]).value == 1


@pytest.mark.parametrize(
    ("text", "f1", "em", "sub"),
    [
        ("The Eiffel Tower!", 1.0, 1, 1),
        ("eiffel", 2 / 3, 0, 0),
        ("the eiffel tower in paris", 2 * 2 / (4 + 2), 0, 1),
        ("louvre", 0.0, 0, 0),
        ("", 0.0, 0, 0),
    ],
)
def test_token_f1(text: str, f1: float, em: int, sub: int) -> None:
    result = token_f1(answer(f"<answer>{text}</answer>"), ["Eiffel Tower", "Tour Eiffel X Y"])
    assert result.value == pytest.approx(f1)
    assert result.extra == {"em": em, "sub_em": sub}


def test_token_f1_yes_is_not_part_of_an_answer() -> None:
    assert token_f1(answer("<answer>yes it is</answer>"), ["yes"]).value == 0
    assert token_f1(answer("<answer>Yes.</answer>"), ["yes"]).value == 1


def test_normalise() -> None:
    assert normalise("The  U.S.A. and an Ant") == "usa and ant"
