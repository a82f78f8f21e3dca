"""Layouts of published preference data become pairs; bad rows are counted and named, and cost only themselves."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair, read_rows
from prefdelta.pairs.exchange import import_pairs

U, A, S = ({"role": role, "content": text} for role, text in (("user", "hi?"), ("assistant", "yes"), ("system", "be")))


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _import(tmp_path: Path, rows: list[Any], form: str = "trl") -> tuple[list[Pair], str]:
    source, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    output.unlink(missing_ok=True)
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = import_pairs(source, output, format=form)
    return read_rows(output, Pair), told


LAYOUTS: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
    "TRL, plain": ("trl", {"prompt": "hi?", "chosen": "a", "rejected": "b"}, [U]),
    "TRL, conversational": ("trl", {"prompt": [S, U], "chosen": [_said("a")], "rejected": [_said("b")]}, [S, U]),
    "TRL, implicit": ("trl", {"chosen": [U, _said("a")], "rejected": [U, _said("b")]}, [U]),
    "UltraFeedback, binarized": (
        "trl",
        {
            "prompt": "hi?",
            "prompt_id": "p",
            "chosen": [U, _said("a")],
            "rejected": [U, _said("b")],
            "score_chosen": 8.0,
        },
        [U],
    ),
    "hh-rlhf": (
        "trl",
        {
            "chosen": "\n\nHuman: hi?\n\nAssistant: yes\n\nHuman: why so?\n\nAssistant: a",
            "rejected": "\n\nHuman: hi?\n\nAssistant: yes\n\nHuman: why so?\n\nAssistant: b",
        },
        [U, A, {"role": "user", "content": "why so?"}],
    ),
    "hh-rlhf, its prompt apart": (
        "trl",
        {"prompt": "\n\nHuman: hi?\n\nAssistant:", "chosen": " a", "rejected": " b"},
        [U],
    ),
    "hh-rlhf, other line ends": (
        "trl",
        {"chosen": "\r\n\r\nHuman: hi?\r\n\r\nAssistant: a", "rejected": "\r\n\r\nHuman: hi?\r\n\r\nAssistant: b"},
        [U],
    ),
    "hh-rlhf, with a system prompt": (
        "trl",
        {"chosen": "System: be\n\nHuman: hi?\n\nAssistant: a", "rejected": "System: be\n\nHuman: hi?\n\nAssistant: b"},
        [S, U],
    ),
    "LLaMA-Factory, ShareGPT": (
        "llamafactory",
        {
            "conversations": [{"from": "human", "value": "hi?"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
            "system": "be",
        },
        [S, U],
    ),
    "LLaMA-Factory, OpenAI": ("llamafactory", {"messages": [U], "chosen": _said("a"), "rejected": _said("b")}, [U]),
    "LLaMA-Factory, Alpaca": (
        "llamafactory",
        {
            "instruction": "Capital?",
            "input": "France",
            "chosen": "a",
            "rejected": "b",
            "system": "be",
            "history": [["hi?", "yes"]],
        },
        [S, U, A, {"role": "user", "content": "Capital?\nFrance"}],
    ),
    "LLaMA-Factory, ranked outputs": (
        "llamafactory",
        {"instruction": "hi?", "input": "", "output": ["a", "b"], "history": []},
        [U],
    ),
    "UltraFeedback": (
        "ultrafeedback",
        {
            "source": "evol",
            "instruction": "hi?",
            "completions": [
                {"response": text, "overall_score": score} for text, score in (("c", 5), ("a", 8.5), ("b", 1))
            ],
        },
        [U],
    ),
    "Auto-J": (
        "auto-j",
        {"scenario": "chat", "label": 1, "prompt": "hi?", "response 1": "b", "response 2": "a"},
        [U],
    ),
    "LLMBar": ("llmbar", {"input": "hi?", "output_1": "b", "output_2": "a", "label": 2}, [U]),
    "PandaLM": (
        "pandalm",
        {
            "instruction": "hi?",
            "input": "",
            "response1": "a",
            "response2": "b",
            **{f"annotator{number}": 1 for number in (1, 2, 3)},
        },
        [U],
    ),
}


LLAMA = LAYOUTS["LLaMA-Factory, OpenAI"][1]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read(tmp_path: Path, name: str) -> None:
    form, row, prompt = LAYOUTS[name]
    (pair,), _ = _import(tmp_path, [row], form)
    assert list(pair.prompt) == prompt
    assert (pair.chosen.text, pair.rejected.text) == ("a", "b")


def test_verdicts_for_neither_answer_are_counted(tmp_path: Path) -> None:
    row = LAYOUTS["Auto-J"][1]
    pairs, told = _import(tmp_path, [row, {**row, "label": 2}, {**row, "label": 0}], "auto-j")
    assert [pair.chosen.text for pair in pairs] == ["a", "b"]
    assert told == "2 pairs; 1 rows prefer neither answer"


def test_a_bad_row_is_counted_and_named_and_costs_only_itself(tmp_path: Path) -> None:
    row = LAYOUTS["TRL, plain"][1]
    pairs, told = _import(tmp_path, [row, row, {**row, "rejected": None}, row])
    assert [pair.id for pair in pairs] == ["rows-0", "rows-1", "rows-3"]
    assert "1 bad rows left out, the first: line 3: " in told
    assert "'rejected' holds neither text nor messages" in told
    with pytest.raises(PrefdeltaError, match=r"2 of 3 rows of .* cannot be read as trl; the first, line 2: "):
        _import(tmp_path, [row, {}, {}])


@pytest.mark.parametrize(
    ("row", "form", "reason"),
    [
        ({"images": ["x.png"], "prompt": [U], "chosen": [A], "rejected": [A]}, "trl", "the column 'images'"),
        ({"prompt": "p", "completion": "c", "label": True}, "trl", "KTO"),
        ({"instruction": "i", "output": "o", "kto_tag": True}, "llamafactory", "KTO"),
        (LAYOUTS["UltraFeedback"][1], "trl", "looks like --format ultrafeedback"),
        (LAYOUTS["Auto-J"][1], "llmbar", "looks like --format auto-j"),
        ({**LAYOUTS["hh-rlhf"][1], "rejected": "\n\nHuman: ho?\n\nAssistant: b"}, "trl", "not one assistant message"),
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "trll", "did you mean 'trl'"),
        ({"prompt": [U, A], "chosen": [_said("a")], "rejected": [_said("b")]}, "trl", "ends with the assistant's turn"),
        ({**LLAMA, "messages": [U, A]}, "llamafactory", "ends with the assistant's turn"),
        ({**LLAMA, "chosen": U}, "llamafactory", "an answer that is not the assistant's"),
        ({**LLAMA, "tools": "[{}]"}, "llamafactory", "tools, which a pair cannot hold"),
        ({**LAYOUTS["Auto-J"][1], "label": 0.7}, "auto-j", "0.7 is no whole number"),
        ({**LAYOUTS["LLMBar"][1], "label": True}, "llmbar", "the label true is no number"),
        (
            {"instruction": "i", "completions": [{"response": "a", "overall_score": score} for score in ("nan", 1)]},
            "ultrafeedback",
            'the score "nan" is no number',
        ),
        (
            {"instruction": "i", "completions": [{"response": "a", "overall_score": score} for score in (None, 1)]},
            "ultrafeedback",
            "the score null is no number",
        ),
        ({"instruction": "i", "completions": ["a", "b"]}, "ultrafeedback", "another kind of value than this layout"),
        (
            {"prompt": "p", "chosen": "c", "rejected": "r", "score_chosen": 3, "score_rejected": 8.5},
            "trl",
            "score_chosen 3 is below score_rejected 8.5",
        ),
        (
            {"system": "s", "question": "q", "chosen": "It a", "rejected": "It b"},
            "trl",
            "no column 'prompt', but 'question'",
        ),
        ({"instruction": "i", "output": ["one"]}, "llamafactory", "not a better and a worse answer"),
    ],
)
def test_what_is_no_preference_between_texts_is_refused(
    tmp_path: Path, row: dict[str, Any], form: str, reason: str
) -> None:
    with pytest.raises(PrefdeltaError) as caught:
        _import(tmp_path, [row], form)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "suffix", [".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.bz2", ".jsonl.xz", ".json-lines"]
)
def test_files_as_they_are_found(tmp_path: Path, suffix: str) -> None:
    row = {"prompt": "a\u2028b\u0085?", "chosen": "\u2029yes", "rejected": "no"}
    lines = "\ufeff" + "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for _ in range(3)) + "\r\n"
    text = json.dumps([row] * 3, ensure_ascii=False) if suffix in (".json", ".json.gz") else lines
    source = tmp_path / f"rows{suffix.replace('-lines', '')}"
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(source.suffix, bytes)
    source.write_bytes(pack(text.encode("utf-8")))
    assert import_pairs(source, tmp_path / "out.jsonl") == "3 pairs"
    found = read_rows(tmp_path / "out.jsonl", Pair)
    assert {pair.prompt[0]["content"] for pair in found} == {row["prompt"]}
    assert [pair.id for pair in found] == ["rows-0", "rows-1", "rows-2"]
    if source.suffix in (".gz", ".xz", ".bz2"):
        source.write_bytes(source.read_bytes()[:-9])
        with pytest.raises(PrefdeltaError, match="rows"):
            import_pairs(source, tmp_path / "out.jsonl", overwrite=True)


def test_a_judgement_of_no_data_set_has_a_task_all_the_same(tmp_path: Path) -> None:
    row = {"preference": 1.0, "dataset": None, "instruction": "i", "output_1": "a", "output_2": "b"}
    (pair,), _ = _import(tmp_path, [row], "alpaca-eval-judgements")
    assert pair.task == "alpaca-eval"
