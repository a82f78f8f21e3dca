"""Messages and answers to token ids: exactness, masks, and what a user is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from prefdelta.core.chat import (
    completion_ids,
    decode,
    encode,
    end_of_turn_ids,
    prompt_ids,
    prompts_ids,
    span_ids,
    stop_ids,
)
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Sample, Span
from tiny import TAGS, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
PLAIN = tiny_tokenizer(tags=False)
QUESTION = ({"role": "system", "content": "short"}, {"role": "user", "content": "1+1?"})
IM_END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")

PIECE = st.sampled_from([*TAGS, "ans", " the", ">\n", "é", "数", " ", "\n\n", "0", "<", "/"])
TEXT = st.lists(PIECE, max_size=8).map("".join)
SPANS = st.lists(st.builds(Span, text=TEXT, source=st.sampled_from(["model", "environment"])), max_size=5).map(tuple)


def _sample(spans: tuple[Span, ...], finish: str = "stop") -> Sample:
    return Sample(item="i", spans=spans, finish=finish, tokens=0)  # type: ignore[arg-type]


def test_prompt_is_the_rendered_template() -> None:
    off = decode(TOKENIZER, prompt_ids(TOKENIZER, QUESTION, thinking=False))
    on = decode(TOKENIZER, prompt_ids(TOKENIZER, QUESTION, thinking=True))
    assert on == "<|im_start|>system\nshort<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert off == on + "<think>\n\n</think>\n\n"


def test_many_prompts_are_each_prompt() -> None:
    many = [QUESTION, QUESTION[1:], ({"role": "user", "content": "数 <search>"},)]
    assert prompts_ids(TOKENIZER, many, True) == [prompt_ids(TOKENIZER, messages, True) for messages in many]
    off = prompt_ids(TOKENIZER, QUESTION, False)
    assert TOKENIZER.encode(decode(TOKENIZER, off), add_special_tokens=False) == off
    assert prompts_ids(TOKENIZER, [], False) == []


@settings(deadline=None)
@given(SPANS, st.sampled_from(["stop", "length"]), st.sampled_from([TOKENIZER, PLAIN]))
def test_completion_keeps_text_and_marks_who_wrote_it(spans: tuple[Span, ...], finish: str, tokenizer: object) -> None:
    ids, mask = completion_ids(tokenizer, _sample(spans, finish))  # type: ignore[arg-type]
    assert len(ids) == len(mask)
    end = [IM_END] if finish == "stop" else []
    assert ids == [number for span in spans for number in span_ids(tokenizer, span)] + end  # type: ignore[arg-type]
    own = [number for number, wrote in zip(ids, mask, strict=True) if wrote]
    text = "".join(span.text for span in spans if span.source == "model")
    assert decode(tokenizer, own) == text + ("<|im_end|>" if end else "")  # type: ignore[arg-type]


def test_spans_are_not_merged_over_their_seam() -> None:
    parts = (Span("a", "model"), Span("ns", "environment"))
    assert len(encode(PLAIN, "ans")) == 1
    assert completion_ids(PLAIN, _sample(parts, "length")) == (encode(PLAIN, "a") + encode(PLAIN, "ns"), [1, 0, 0])


def test_end_of_turn_is_what_the_template_writes() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    assert end_of_turn_ids(tokenizer)[-1] == IM_END
    assert stop_ids(tokenizer, None) == [IM_END, tokenizer.eos_token_id]
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=[5, IM_END])) == [IM_END, tokenizer.eos_token_id, 5]


def test_end_of_turn_without_template_is_the_end_of_sequence() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.eos_token = "<|endoftext|>"
    assert end_of_turn_ids(tokenizer)[-1] == tokenizer.eos_token_id


def test_errors_say_what_to_do() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(PrefdeltaError, match=r"chat_template\.jinja"):
        prompt_ids(tokenizer, QUESTION, thinking=False)
    tokenizer.eos_token = None
    with pytest.raises(PrefdeltaError, match="end-of-sequence"):
        end_of_turn_ids(tokenizer)[-1]
    tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(PrefdeltaError, match="no system role"):
        prompt_ids(tokenizer, QUESTION, thinking=False)
