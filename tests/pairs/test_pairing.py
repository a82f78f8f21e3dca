"""Pairing rules, filters, controls and the data card."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Pair, Sample, Span
from prefdelta.pairs.card import data_card
from prefdelta.pairs.filters import has_format
from prefdelta.pairs.pairing import make_pairs, reverse_labels, shuffle_labels
from prefdelta.recipe import Filters

ITEMS = [Item(f"i{number}", "ab"[number % 2], ({"role": "user", "content": f"q{number}"},)) for number in range(6)]


def _sample(number: int, text: str, finish: Literal["stop", "length"] = "stop", shown: str = "") -> Sample:
    spans = (Span(text), *([Span(shown, "environment")] if shown else []))
    return Sample(f"i{number}", spans, finish, tokens=len(text))


def test_every_item_is_counted_once_and_order_is_the_items() -> None:
    chosen = [_sample(4, "go"), _sample(3, "same"), _sample(2, "same"), _sample(1, "cut", "length"), _sample(0, "aye")]
    rejected = [_sample(0, "no"), _sample(1, "no"), _sample(2, "same"), _sample(3, "same", "length"), _sample(5, "no")]
    pairs, counts = make_pairs(ITEMS, chosen, rejected, Filters(format="finished"))
    assert [(pair.id, pair.task, pair.chosen.text, pair.rejected.text) for pair in pairs] == [
        ("i0", "a", "aye", "no"),
        ("i3", "b", "same", "same"),  # one ended, the other was cut: not identical
    ]
    assert pairs[0].prompt == ITEMS[0].messages
    assert (counts.items, counts.pairs) == (6, 2)
    assert counts.dropped == {"missing": 2, "identical": 1, "format": 1}


def test_who_wrote_a_text_makes_a_difference() -> None:
    pairs, counts = make_pairs(ITEMS[:1], [_sample(0, "a", shown="b")], [_sample(0, "ab")], Filters())
    assert len(pairs) == 1
    assert counts.dropped == {}


def test_nothing_left_is_an_error_with_counts() -> None:
    with pytest.raises(PrefdeltaError, match=r"6 items: dropped 5 missing, 1 format"):
        make_pairs(ITEMS, [_sample(0, "x", "length")], [_sample(0, "y")], Filters(format="finished"))
    with pytest.raises(PrefdeltaError, match="answered already"):
        make_pairs(ITEMS, [_sample(0, "x")] * 2, [_sample(0, "y")], Filters())


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<answer>x</answer>", True),
        ("so <search>q</search> then <search>r</search> <answer>x</answer>\n", True),
        ("<answer>x</answer> and more", False),
        ("no tags", False),
        ("", False),
        ("<answer>x", False),
        ("x</answer>", False),
        ("<answer>x</answer><answer>y</answer>", False),
        ("<answer><answer>x</answer>", False),
        ("<search>q <answer>x</answer>", False),
        ("q</search> <answer>x</answer>", False),
        ("<search><search>q</search></search><answer>x</answer>", False),
        ("<answer>x</answer><search>q</search>", False),
        ("<answer><search>q</search></answer>", False),
    ],
)
def test_answer_tags(text: str, right: bool) -> None:
    assert has_format(_sample(0, text), "answer-tags") is right
    assert not has_format(_sample(0, text, "length"), "answer-tags")
    assert has_format(_sample(0, text), "finished")
    assert has_format(_sample(0, text, "length"), None)


def test_answer_tags_ignores_what_was_shown_and_what_was_thought() -> None:
    spans = (Span("<search>q</search>"), Span("<answer>no</answer>", "environment"), Span("<answer>yes</answer>"))
    assert has_format(Sample("i", spans, "stop", 0), "answer-tags")
    thought = Span("<think>maybe <answer>a</answer></think><answer>b</answer>")
    assert has_format(Sample("i", (thought,), "stop", 0, thinking=True), "answer-tags")


def _pairs(count: int) -> list[Pair]:
    prompt = ({"role": "user", "content": "?"},)
    return [
        Pair(f"p{number}", "t", prompt, _sample(number, "good one"), _sample(number, "bad")) for number in range(count)
    ]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 30))
def test_controls_only_change_sides(seed: int, count: int) -> None:
    pairs = _pairs(count)
    assert reverse_labels(reverse_labels(pairs)) == pairs
    shuffled = shuffle_labels(pairs, seed)
    assert shuffled == shuffle_labels(pairs, seed)
    for before, after, turned in zip(pairs, shuffled, reverse_labels(pairs), strict=True):
        assert after in (before, turned)
        assert (turned.chosen, turned.rejected) == (before.rejected, before.chosen)


def test_half_of_the_labels_are_reversed() -> None:
    pairs = _pairs(2000)
    same = sum(before == after for before, after in zip(pairs, shuffle_labels(pairs, 0), strict=True))
    assert same == pytest.approx(1000, abs=4 * 500**0.5)


def test_the_card_tells_counts_origin_and_lengths() -> None:
    chosen = [_sample(number, "two words", shown="more words here") for number in range(4)]
    rejected = [_sample(number, "one", "length") for number in range(3)] + [_sample(3, "three more words")]
    pairs, counts = make_pairs(ITEMS, chosen, rejected, Filters())
    card = data_card(pairs, counts, {"weak": "org/weak", "weaker": "org/weaker"})
    assert card == data_card(pairs, counts, {"weaker": "org/weaker", "weak": "org/weak"})
    assert '"weak": "org/weak"' in card
    lines = Counter(card.splitlines())
    for line in (
        "| asked | 6 |",
        "| dropped: not answered as the rule needs | 2 |",
        "| **pairs** | 4 |",
        "| a | 2 |",
        "| b | 2 |",
        "| words written, mean | 2.0 | 1.5 |",
        "| words written, median | 2.0 | 1.0 |",
        "| searches, mean | 1.0 | 0.0 |",
        "| ended by the model, % | 100.0 | 25.0 |",
    ):
        assert lines[line] == 1, line
    assert "| after the filters | 9.0 | 6.2 | 75.0 | 25.0 | +0.555 |" in lines
