"""Control tokens come from the chat template alone, whatever is written in messages, answers and search results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_tokenizers import (
    CHATML,
    CONTENT,
    GEMMA,
    MISTRAL,
    PLAIN,
    TEMPLATES,
    all_tokenizers,
    byte_level,
    sentence_piece,
)
from prefdelta.core.chat import (
    completion_ids,
    conversation_ids,
    decode,
    end_of_turn_ids,
    prompt_ids,
    prompts_ids,
    span_ids,
    stop_ids,
)
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Sample, Span

TOKENIZERS = all_tokenizers()
LITERALS = sorted({token for _, tokens in TEMPLATES.values() for token in tokens} | {"<s>", "</s>"})

PIECE = st.sampled_from([*LITERALS, *CONTENT, "a", " the", "\n", "é", "数", "<|im_<|im_end|>end|>", "<", "|>", "/"])
TEXT = st.lists(PIECE, max_size=8).map("".join)
SPANS = st.lists(st.builds(Span, text=TEXT, source=st.sampled_from(["model", "environment"])), max_size=4).map(tuple)
NAME = st.sampled_from(sorted(TOKENIZERS))


def _control(name: str) -> set[int]:
    tokenizer = TOKENIZERS[name]
    tokens = {*TEMPLATES[name.split("-")[0]][1], "<s>", "</s>"}
    return {tokenizer.convert_tokens_to_ids(token) for token in tokens}


def _read(name: str, ids: list[int]) -> str:
    return _spaced(name, decode(TOKENIZERS[name], ids))


def _spaced(name: str, text: str) -> str:
    """A text as the tokenizer keeps it: SentencePiece-like ones put spaces before texts and behind added tokens."""
    return text.replace(" ", "") if "sentence_piece" in name else text


def _asked(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": "a"}, {"role": "assistant", "content": text}, {"role": "user", "content": text})


@given(NAME, TEXT)
def test_a_prompt_has_the_control_tokens_of_the_template_and_no_other(name: str, text: str) -> None:
    tokenizer, control = TOKENIZERS[name], _control(name)
    plain, ids = (prompt_ids(tokenizer, _asked(content), False) for content in ("x", text))
    assert [number for number in ids if number in control] == [number for number in plain if number in control]
    rendered = tokenizer.apply_chat_template(list(_asked(text)), tokenize=False, add_generation_prompt=True)
    assert _read(name, ids) == _spaced(name, rendered)
    assert prompts_ids(tokenizer, [_asked("x"), _asked(text)], False) == [plain, ids]
    closed = conversation_ids(tokenizer, _asked(text))
    assert sum(number in control for number in closed) == sum(
        number in control for number in conversation_ids(tokenizer, _asked("x"))
    )


@given(NAME, SPANS, st.sampled_from(["stop", "length", "unknown"]))
def test_an_answer_has_one_end_of_turn_if_it_stopped_and_masks_hold(
    name: str, spans: tuple[Span, ...], finish: str
) -> None:
    tokenizer, control = TOKENIZERS[name], _control(name)
    ids, own = completion_ids(tokenizer, Sample("i", spans, finish, 0))  # type: ignore[arg-type]
    end = list(end_of_turn_ids(tokenizer)) if finish == "stop" else []
    body = ids[: len(ids) - len(end)]
    assert ids[len(body) :] == end
    assert control.isdisjoint(body)
    assert own == [int(span.source == "model") for span in spans for _ in span_ids(tokenizer, span)] + [1] * len(end)
    for span in spans:
        assert _read(name, span_ids(tokenizer, span)) == _spaced(name, span.text)


@given(NAME, TEXT)
def test_a_passage_cannot_close_the_frame_that_it_is_shown_in(name: str, passage: str) -> None:
    tokenizer = TOKENIZERS[name]
    tags = {tokenizer.convert_tokens_to_ids(tag) for tag in CONTENT}
    ids = span_ids(tokenizer, Span(f"\n\n<information>a{passage}a</information>\n\n", "environment"))
    found = [number for number in ids if number in tags]
    assert found == [tokenizer.convert_tokens_to_ids(tag) for tag in ("<information>", "</information>")]


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_the_end_of_turn_is_what_the_template_writes_special_or_not(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    ends = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "</s>"}
    family = name.split("-")[0]
    if family == "plain":
        answer = Sample("i", (Span("a the"),), "stop", 0)
        assert decode(tokenizer, completion_ids(tokenizer, answer)[0]) == "a the\n### End"
        assert stop_ids(tokenizer, None) == [tokenizer.eos_token_id]
    else:
        number = tokenizer.convert_tokens_to_ids(ends[family])
        assert (end_of_turn_ids(tokenizer), end_of_turn_ids(tokenizer)[-1]) == ((number,), number)
        assert stop_ids(tokenizer, None) == list(dict.fromkeys([number, tokenizer.eos_token_id]))


@pytest.mark.parametrize("kind", [byte_level, sentence_piece])
def test_letters_of_another_case_or_width_are_no_way_around(kind: object) -> None:
    from tokenizers import normalizers

    tokenizer = kind(CHATML, ("<|im_start|>", "<|im_end|>"))  # type: ignore[operator]
    core = tokenizer.backend_tokenizer
    folds = [normalizers.NFKC(), normalizers.Lowercase()]
    core.normalizer = normalizers.Sequence([*folds, core.normalizer] if core.normalizer else folds)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for text in ("<|IM_END|>", "＜|im_end|＞", "<|im_end|>"):
        assert end not in completion_ids(tokenizer, Sample("i", (Span(text),), "length", 0))[0]
        ids = prompt_ids(tokenizer, [{"role": "user", "content": text}], False)
        assert ids.count(end) == 1


def test_a_template_that_changes_case_is_looked_into_all_the_same() -> None:
    tokenizer = byte_level(CHATML.replace("m.content", "m.content|upper"), ("<|im_start|>", "<|im_end|>"))
    assert end_of_turn_ids(tokenizer)[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    dropping = byte_level(CHATML.replace("m.content", "''"), ("<|im_start|>", "<|im_end|>"))
    assert end_of_turn_ids(dropping)[-1] == dropping.eos_token_id


ASKED = ({"role": "user", "content": "2+2?"},)
ENDLESS = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
DOUBLING = "{% set n = namespace(x='ab') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({"rag": "{{ messages }}", "tool_use": "x"}, "rag, tool_use and none called default"),
        ("{% for m in messages %}{{ m.content + 1 }}{% endfor %}", "refuses the messages or fails"),
        ("{% for m in messages %}{{ m.content }}", "refuses the messages or fails"),
        ("{{ messages[7].content.upper() }}", "refuses the messages or fails"),
        ("{{ 1 // 0 }}", "refuses the messages or fails"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "refuses the messages or fails"),
        ("{{ raise_exception('no users') }}", "no users"),
        (ENDLESS, "does not end"),
        (DOUBLING, "does not end"),
        ("{{ 'a' * 10000000000 }}", "does not end"),
        ("{{ 9 ** (9 ** 9) }}", "does not end"),
        (CHATML.replace("add_generation_prompt", "false"), "does not open the assistant's turn"),
    ],
)
def test_a_faulty_template_is_told_in_one_sentence_that_names_the_model(template: object, reason: str) -> None:
    tokenizer = byte_level(CHATML, ("<|im_start|>", "<|im_end|>"))
    tokenizer.chat_template = template
    tokenizer.name_or_path = "some/model"
    with pytest.raises(PrefdeltaError, match="some/model") as caught:
        prompt_ids(tokenizer, ASKED, False)
    assert reason in str(caught.value)


def test_a_template_is_bounded_where_only_this_process_knows_of_jinja(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    tokenizer = byte_level(CHATML, ("<|im_start|>", "<|im_end|>"))
    tokenizer.chat_template = ENDLESS.replace("a in", "own in")  # not tried before
    with pytest.raises(PrefdeltaError, match="does not end"):
        prompt_ids(tokenizer, ASKED, False)


def test_of_several_templates_the_default_is_taken() -> None:
    tokenizer = byte_level(CHATML, ("<|im_start|>", "<|im_end|>"))
    expected = prompt_ids(tokenizer, ASKED, False)
    tokenizer.chat_template = {"default": CHATML, "tool_use": "x"}
    assert prompt_ids(tokenizer, ASKED, False) == expected
    assert end_of_turn_ids(tokenizer)[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize("template", [GEMMA, MISTRAL])
def test_a_template_without_system_role_says_so(template: str) -> None:
    tokenizer = sentence_piece(template, ("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"))
    with pytest.raises(PrefdeltaError, match="supported"):
        prompt_ids(tokenizer, ({"role": "system", "content": "short"}, *ASKED), False)
    assert prompt_ids(tokenizer, ASKED, False)


def test_a_plain_template_opens_the_answer() -> None:
    tokenizer = byte_level(PLAIN, ())
    assert decode(tokenizer, prompt_ids(tokenizer, ASKED, False)).endswith("### assistant:\n")
