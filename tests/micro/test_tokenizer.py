"""The tokenizer: exact round trips over everything that occurs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from micro_family import tokenizer as tokenizers
from micro_family.demonstrations import demonstrate
from micro_family.rates import rates
from prefdelta import micro
from prefdelta.core.chat import completion_ids, prompt_ids
from prefdelta.core.records import Sample

WORDS = tokenizers.build()


@pytest.mark.parametrize("domain", list(micro.TASKS))
def test_conversations_survive_and_prompts_are_prefixes(domain, words, search) -> None:
    draw = random.Random(0)
    for item in micro.items(domain, split="validation", count=700):
        sample = Sample(item.id, demonstrate(item, rates("base"), search, draw), "stop", 0)
        opened = words.apply_chat_template(list(item.messages), tokenize=False, add_generation_prompt=True)
        turns = [*item.messages, {"role": "assistant", "content": sample.text}]
        whole = words.apply_chat_template(turns, tokenize=False)
        ids = words.encode(whole, add_special_tokens=False)
        prompt = prompt_ids(words, item.messages, False)
        assert whole.startswith(opened)
        assert ids[: len(prompt)] == prompt
        assert words.decode(ids) == whole
        assert words.unk_token_id not in ids
        # Span by span gives the same ids as the whole, so masks fall between tokens; what is left is the last newline.
        assert prompt + completion_ids(words, sample)[0] == ids[:-1]
        assert len(ids) <= words.model_max_length / 2


def test_every_document_survives(words) -> None:
    for document in micro.corpus():
        ids = words.encode(document.text)
        assert words.decode(ids) == document.text
        assert words.unk_token_id not in ids


@given(st.lists(st.sampled_from([*tokenizers.vocabulary(), *tokenizers.TAGS]), max_size=12))
def test_any_tokens_in_any_order_survive(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert WORDS.decode(WORDS.encode(text)) == text


def test_tags_are_single_visible_tokens_and_the_turn_end_is_special(words) -> None:
    for tag in tokenizers.TAGS:
        assert len(words.encode(tag)) == 1
        assert words.decode(words.encode(tag), skip_special_tokens=True) == tag
    assert words.decode(words.encode(tokenizers.END_OF_TURN), skip_special_tokens=True) == ""
    assert words.eos_token == tokenizers.END_OF_TURN


def test_the_shipped_tokenizer_is_the_built_one(words) -> None:
    for name in micro.MODELS:
        shipped = AutoTokenizer.from_pretrained(micro.model_path(name))
        assert shipped.get_vocab() == words.get_vocab()
        assert shipped.chat_template == words.chat_template
        assert shipped.backend_tokenizer.to_str() == words.backend_tokenizer.to_str()
