"""Filters: near duplicates against brute force, contamination, lengths, and what is counted where."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair, Sample, Span
from prefdelta.pairs.filters import filter_pairs
from prefdelta.pairs.lengths import balanced, length_bias, log_ratio, within_ratio
from prefdelta.pairs.similar import NgramIndex, jaccard, near_duplicates, shingles
from prefdelta.recipe import Filters, Questions
from tiny import tiny_tokenizer


def _pair(name: str, asked: str = "q", chosen: str = "good", rejected: str = "bad") -> Pair:
    item = name.partition("/")[0]
    good, bad = (Sample(item, (Span(text),), "stop", 1) for text in (chosen, rejected))
    return Pair(name, "t", ({"role": "user", "content": asked},), good, bad)


def _kept(pairs: list[Pair], **settings: Any) -> tuple[list[str], dict[str, int]]:
    extra = {name: settings.pop(name) for name in ("questions", "tokenizer") if name in settings}
    evaluated = settings.pop("evaluated", {})
    kept, dropped = filter_pairs(pairs, Filters(**settings), evaluated=evaluated, **extra)
    gone = [pair.id for those in dropped.values() for pair in those]
    assert sorted(gone + [pair.id for pair in kept]) == sorted(pair.id for pair in pairs)
    return [pair.id for pair in kept], {reason: len(those) for reason, those in dropped.items()}


def test_without_filters_nothing_happens() -> None:
    pairs = [_pair("a"), _pair("b")]
    assert _kept(pairs) == (["a", "b"], {})


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=12),
    st.sampled_from([0.2, 0.5, 0.6, 0.75, 0.8, 1.0]),
)
def test_near_duplicates_are_those_of_brute_force(texts: list[str], similarity: float) -> None:
    kept: list[str] = []
    expected = []
    for text in texts:
        again = any(jaccard(shingles(text), shingles(other)) >= similarity for other in kept)
        expected.append(again)
        if not again:
            kept.append(text)
    assert near_duplicates(texts, similarity) == expected
    survivors = [text for text, again in zip(texts, expected, strict=True) if not again]
    assert all(jaccard(shingles(one), shingles(other)) < similarity for one, other in combinations(survivors, 2))


def test_duplicates_are_questions_asked_before_and_all_pairs_of_one_question_stay() -> None:
    pairs = [
        _pair("a", "What is  two?"),
        _pair("a/1", "What is  two?", "fine", "poor"),
        _pair("a/2", "What is  two?"),
        _pair("b", "what is TWO?"),
        _pair("c", "what is the sum of one and one, dear friend of mine"),
        _pair("d", "what is the sum of one and one, dear friend of hers"),
    ]
    assert _kept(pairs, duplicates="exact") == (["a", "a/1", "c", "d"], {"duplicate": 2})
    assert _kept(pairs, duplicates="near") == (["a", "a/1", "c"], {"duplicate": 3})
    assert _kept(pairs, duplicates="near", near_similarity=0.9) == (["a", "a/1", "c", "d"], {"duplicate": 2})


def test_duplicates_look_at_the_question_and_not_at_the_words_around_it() -> None:
    template = "Please think about this with great care before you answer: {question} Write it down."
    pairs = [_pair(name, template.replace("{question}", name)) for name in ("one two", "three four", "one two ")]
    near = {"duplicates": "near", "near_similarity": 0.5}
    assert _kept(pairs, **near)[0] == ["one two"]
    questions = Questions(source="x", template=template)
    assert _kept(pairs, **near, questions=questions)[0] == ["one two", "three four"]


def test_contamination_is_a_run_of_words_or_a_whole_short_question() -> None:
    evaluated = {"sums": ["How many are two and two then?"], "short": ["Why?"]}
    pairs = [
        _pair("a", "Tell me: how many are TWO, and three?"),
        _pair("b", "why"),
        _pair("c", "why not"),
        _pair("d", "how many are there"),
    ]
    kept, dropped = _kept(pairs, decontaminate=4, evaluated=evaluated)
    assert kept == ["c", "d"]
    assert dropped == {"contaminated: sums": 1, "contaminated: short": 1}
    with pytest.raises(PrefdeltaError, match="none is given"):
        _kept(pairs, decontaminate=4)


@given(st.lists(st.sampled_from("ab"), max_size=9), st.lists(st.sampled_from("ab"), max_size=9), st.integers(1, 4))
def test_shared_ngrams_are_those_of_brute_force(one: list[str], other: list[str], size: int) -> None:
    texts = [" ".join(one), " ".join(other)]
    runs = [{tuple(part[start : start + size]) for start in range(len(part) - size + 1)} for part in (one, other)]
    shared = bool(runs[0] & runs[1]) or (0 < len(one) < size and one == other)
    assert NgramIndex(texts[:1], size).shares(texts[1]) is shared


def test_identical_after_truncation_counts_the_prompt_and_the_end_of_turn() -> None:
    tokenizer = tiny_tokenizer()
    pairs = [_pair("a", chosen="xxxx1", rejected="xxxx2"), _pair("b", chosen="x", rejected="xx")]
    whole = len(tokenizer.apply_chat_template([{"role": "user", "content": "q"}], tokenize=True)["input_ids"])
    prompt = len(tokenizer.encode("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"))
    assert whole < prompt
    for room, kept in ((0, []), (1, []), (2, ["b"]), (4, ["b"]), (5, ["a", "b"])):
        assert _kept(pairs, identical_within=prompt + room, tokenizer=tokenizer)[0] == kept
    with pytest.raises(PrefdeltaError, match="name the student"):
        _kept(pairs, identical_within=9)


def test_the_ratio_of_lengths_is_bounded_on_both_sides() -> None:
    pairs = [_pair("a", chosen="x" * 19, rejected="x" * 9), _pair("b", chosen="x" * 9, rejected="x" * 20)]
    assert within_ratio(pairs[0], 2)
    assert _kept(pairs, max_length_ratio=2) == (["a"], {"length_ratio": 1})


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_balanced_lengths_are_as_often_longer_as_shorter_and_few_are_lost(sizes: list[tuple[int, int]]) -> None:
    pairs = [_pair(f"p{place}", chosen="x" * one, rejected="x" * two) for place, (one, two) in enumerate(sizes)]
    keep = balanced(pairs)
    left = [pair for pair, flag in zip(pairs, keep, strict=True) if flag]
    bias = length_bias(left)
    assert bias.chosen_longer == bias.rejected_longer
    assert abs(bias.log_ratio) <= 0.224  # one bucket
    assert all(flag for pair, flag in zip(pairs, keep, strict=True) if log_ratio(pair) == 0)
    assert balanced(left) == [True] * len(left)
    turned = [Pair(pair.id, pair.task, pair.prompt, pair.rejected, pair.chosen) for pair in pairs]
    assert balanced(turned) == keep


def test_filters_come_in_a_fixed_order_and_count_a_pair_once() -> None:
    open_ended = Sample("b", (Span("good"),), "length", 1)
    pairs = [_pair("a"), Pair("b", "t", _pair("a").prompt, open_ended, _pair("a").rejected), _pair("c", "q", "x" * 99)]
    kept, dropped = _kept(pairs, format="finished", max_length_ratio=3, duplicates="exact")
    assert kept == ["a"]
    assert list(dropped.items()) == [("format", 1), ("length_ratio", 1), ("duplicate", 0)]
