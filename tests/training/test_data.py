"""Rows: exact tokens, masks, truncation, and what is dropped or refused."""

from __future__ import annotations

import dataclasses

import pytest

from prefdelta.core.chat import decode, prompt_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair, Sample, Span
from prefdelta.core.reference import ModelRef
from prefdelta.training.data import Response, Row, check_context, make_rows, token_digest
from tiny import tiny_tokenizer
from training_runs import make_pairs

TOKENIZER = tiny_tokenizer()
QUESTION = ({"role": "user", "content": "who?"},)


def _pair(chosen: Sample, rejected: Sample) -> Pair:
    return Pair("p", "t", QUESTION, chosen, rejected)


def _answer(text: str, *, stop: bool = True, thinking: bool = False) -> Sample:
    return Sample("p", (Span(text),), "stop" if stop else "length", 1, thinking)


def test_a_row_is_the_conversation_and_its_mask_leaves_out_what_was_read() -> None:
    searched = Sample(
        "p", (Span("<search>x</search>"), Span("<information>y</information>", "environment"), Span("ok")), "stop", 1
    )
    (row,) = make_rows([_pair(searched, _answer("no"))], TOKENIZER, thinking=False, max_length=512).rows
    assert row.prompt == tuple(prompt_ids(TOKENIZER, QUESTION, thinking=False))
    chosen = row.responses[0]
    own = [token for token, mine in zip(chosen.ids, chosen.own, strict=True) if mine]
    assert decode(TOKENIZER, chosen.ids) == "<search>x</search><information>y</information>ok<|im_end|>"
    assert decode(TOKENIZER, own) == "<search>x</search>ok<|im_end|>"


def test_only_an_answer_that_stopped_is_taught_to_stop() -> None:
    pair = _pair(_answer("ab"), _answer("ab", stop=False))
    (row,) = make_rows([pair], TOKENIZER, thinking=False, max_length=512).rows
    assert [decode(TOKENIZER, response.ids) for response in row.responses] == ["ab<|im_end|>", "ab"]


def test_truncation_cuts_responses_and_drops_pairs_without_a_difference() -> None:
    prompt = len(prompt_ids(TOKENIZER, QUESTION, thinking=False))
    pairs = [_pair(_answer("aaaab"), _answer("aaaac")), _pair(_answer("bbbbb"), _answer("ccc"))]
    rows = make_rows(pairs, TOKENIZER, thinking=False, max_length=prompt + 4)
    assert len(rows.rows) == 1
    assert [len(response.ids) for response in rows.rows[0].responses] == [4, 4]
    assert rows.dropped == {"empty": 0, "identical": 1, "long_prompt": 0}
    assert rows.truncated == 1
    assert rows.rows[0].length == prompt + 4


def test_drops_are_counted_by_reason() -> None:
    silent = Sample("p", (Span("only read", "environment"),), "length", 0)
    long = dataclasses.replace(_pair(_answer("a"), _answer("b")), prompt=({"role": "user", "content": "w" * 300},))
    pairs = [_pair(_answer("a"), _answer("b")), _pair(silent, _answer("b")), long]
    assert make_rows(pairs, TOKENIZER, thinking=False, max_length=200).dropped == {
        "empty": 1,
        "identical": 0,
        "long_prompt": 1,
    }


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(PrefdeltaError, match=r"2 with a prompt that fills max_length \(5 tokens\).*shortest has 36"):
        make_rows([_pair(_answer("a"), _answer("b"))] * 2, TOKENIZER, thinking=False, max_length=5)


def test_a_sample_of_another_thinking_mode_is_refused() -> None:
    pair = _pair(_answer("a"), _answer("b", thinking=True))
    with pytest.raises(PrefdeltaError, match="'p' was sampled with thinking on"):
        make_rows([pair], TOKENIZER, thinking=False, max_length=100)


def test_digest_tells_sequences_apart() -> None:
    digests = {token_digest(sequences) for sequences in ([(1, 2), (3,)], [(1,), (2, 3)], [(1, 2, 3)], [(2, 1), (3,)])}
    assert len(digests) == 4


def test_the_tests_pairs_are_sound() -> None:
    rows = make_rows(make_pairs(20), TOKENIZER, thinking=False, max_length=512)
    assert len(rows.rows) == 20


def test_rows_that_the_student_cannot_read_are_refused_before_it_is_loaded() -> None:
    student = ModelRef(path="micro:student")
    check_context([Row((1, 2), (Response((3,), (1,)),))], student)
    long = Row(tuple(range(5000)), (Response((3,), (1,)),))
    with pytest.raises(PrefdeltaError, match="the longest example has 5001 tokens, and micro:student reads at most"):
        check_context([long], student)
