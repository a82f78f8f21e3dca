"""Thoughts in answers that were given with thinking off: seen, left out, counted, never an answer in silence."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from prefdelta.core.chat import decode
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Pair, Sample, Span, write_rows
from prefdelta.core.thoughts import after_thoughts, stray_thought, without_thought
from prefdelta.evaluation.scoring import SCORERS
from prefdelta.generation.responses import import_responses
from prefdelta.pairs.pairing import make_pairs
from prefdelta.pairs.scoring.reward import final_text
from prefdelta.pairs.trl import from_trl
from prefdelta.recipe import Filters, Imported
from prefdelta.training.data import make_rows
from tiny import tiny_tokenizer

ITEM = Item("i", "t", ({"role": "user", "content": "2+2?"},), ("4",))


def _sample(text: str, *, thinking: bool = False) -> Sample:
    return Sample("i", (Span(text),) if text else (), "stop", 0, thinking)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>\nadd\n</think>\n\n4", "4"),
        ("\n<think></think>4", "4"),
        ("add, so 5</think>\n4", "4"),  # the template had begun the thought
        ("<think>a</think>b<think>c</think>4", "4"),
        ("<think>never done", ""),
        ("<thinking>add</thinking>\n4", "4"),
        (" [THINK]add, so 5[/THINK]4", "4"),
        ("add, so 5◁/think▷4", "4"),
        ("<seed:think>so 5</seed:think>4", "4"),
        ("<|begin_of_thought|>so 5<|end_of_thought|>\n\n4", "4"),
        ("<|channel|>analysis<|message|>so 5<|end|><|start|>assistant<|channel|>final<|message|>4", "4"),
        ("<|channel|>analysis<|message|>so 5", ""),
    ],
)
def test_a_stray_thought_is_seen_and_left_out(text: str, said: str) -> None:
    assert stray_thought(_sample(text))
    assert not stray_thought(_sample(text, thinking=True))
    assert (without_thought(_sample(text)).text, after_thoughts(text)) == (said, said)
    assert final_text(_sample(text)) == said
    assert SCORERS["final-number"](_sample(text), ["4"]).value == float(said == "4")


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "",
        "The tag <think> opens a thought.",
        "Between <thinking> and </thinking> it thinks.",
        "<reasoning>add</reasoning>4",
        "<think>look it up</think><search>4</search>",
    ],
)
def test_what_is_no_stray_thought(text: str) -> None:
    assert not stray_thought(_sample(text))


def test_thoughts_of_imported_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_rows(path, [_sample("<think>add</think>4")])
    with pytest.warns(UserWarning, match=r"1 of 1 answers of .* hold a thought, though thinking is off"):
        found = import_responses(Imported(path=str(path), format="samples"), [ITEM])
    assert [sample.text for sample in found] == ["4"]
    write_rows(path, [_sample("<think>add</think>4", thinking=True)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert import_responses(Imported(path=str(path), format="samples"), [ITEM])[0].thinking


def test_pairs_with_stray_thoughts_are_dropped_and_counted() -> None:
    other = Item("j", "t", ITEM.messages)
    chosen = [_sample("<think>add</think>4"), Sample("j", (Span("4"),), "stop", 0)]
    rejected = [_sample("5"), Sample("j", (Span("5"),), "stop", 0)]
    pairs, counts = make_pairs([ITEM, other], chosen, rejected, Filters())
    assert [pair.id for pair in pairs] == ["j"]
    assert counts.dropped["thought"] == 1


def test_training_never_learns_a_stray_thought_and_closes_no_empty_one_before_a_thought() -> None:
    tokenizer = tiny_tokenizer()

    def pair(name: str, chosen: str, thinking: bool) -> Pair:
        return Pair(name, "t", ITEM.messages, _sample(chosen, thinking=thinking), _sample("5", thinking=thinking))

    off = [pair("a", "<think>add</think>4", False), pair("b", "4", False)]
    rows = make_rows(off, tokenizer, thinking=False, max_length=500)
    assert (len(rows.rows), rows.dropped["thought"]) == (1, 1)
    with pytest.raises(PrefdeltaError, match="1 with a thought, though thinking is off"):
        make_rows(off[:1], tokenizer, thinking=False, max_length=500)
    row = make_rows([pair("a", "<think>add</think>4", True)], tokenizer, thinking=True, max_length=500).rows[0]
    text = decode(tokenizer, row.prompt + row.responses[0].ids)
    assert text.endswith("assistant\n<think>add</think>4<|im_end|>")


def test_rows_of_other_tools_with_thoughts_are_of_thinking_mode() -> None:
    row = {"prompt": "2+2?", "chosen": "<think>\nadd\n</think>\n\n4", "rejected": "5"}
    pair = from_trl(row, "a")
    assert (pair.chosen.thinking, pair.rejected.thinking) == (True, True)
    assert from_trl({**row, "rejected": "<thinking>hm</thinking>5", "chosen": "4"}, "a").rejected.thinking
    with pytest.raises(PrefdeltaError, match="holds a thought, though enable_thinking is false"):
        from_trl({**row, "chat_template_kwargs": json.loads('{"enable_thinking": false}')}, "a")
