"""TRL's rows: TRL reads ours, and rows go and come back as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import datasets
import pytest
from trl import apply_chat_template, extract_prompt, is_conversational

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair, Sample, Span, read_rows, write_rows
from prefdelta.pairs.exchange import export_pairs, import_pairs
from prefdelta.pairs.trl import from_trl, to_trl
from tiny import tiny_tokenizer

ASKED = ({"role": "user", "content": "?"},)
SEARCHED = (Span("<search>q</search>"), Span("<information>é\u2028</information>", "environment"), Span("so"))


def _sample(name: str, text: str, finish: Literal["stop", "length"] = "stop", thinking: bool = False) -> Sample:
    return Sample(name, (Span(text),) if text else (), finish, tokens=len(text), thinking=thinking)


PLAIN = Pair("p0", "t", ASKED, _sample("p0", "good one"), _sample("p0", "bad", "length"))
RICH = Pair(
    "p1",
    "t",
    ({"role": "system", "content": "Be brief."}, *ASKED, {"role": "assistant", "content": "!"}, *ASKED),
    Sample("p1", SEARCHED, "stop", 9, thinking=True, index=2),
    _sample("p1", "", "length", thinking=True),
)


def test_trl_reads_our_rows() -> None:
    row = to_trl(PLAIN)
    assert is_conversational(row)
    texts = apply_chat_template(dict(row), tiny_tokenizer())
    assert texts["prompt"].startswith("<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n")
    assert texts["chosen"].endswith("good one<|im_end|>\n")
    assert texts["rejected"].endswith("bad<|im_end|>\n")
    table = datasets.Dataset.from_list([row])
    assert table[0]["chosen"] == [{"role": "assistant", "content": "good one"}]
    assert table[0]["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows"])
@pytest.mark.parametrize("form", ["conversational", "standard"])
def test_pairs_come_back_as_they_were(tmp_path: Path, name: str, form: Literal["conversational", "standard"]) -> None:
    pairs = [PLAIN] if form == "standard" else [PLAIN, RICH]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    told = export_pairs(tmp_path / "pairs.jsonl", tmp_path / name, form=form)
    assert told.startswith(f"{len(pairs)} rows; ")
    assert "cut off" in told
    assert import_pairs(tmp_path / name, tmp_path / "back.jsonl") == f"{len(pairs)} pairs"
    assert (tmp_path / "back.jsonl").read_bytes() == (tmp_path / "pairs.jsonl").read_bytes()


TRL_ROWS: list[dict[str, Any]] = [
    {"prompt": "sky is", "chosen": " blue", "rejected": " green"},
    {"prompt": "", "chosen": "a", "rejected": ""},
]
TRL_CONVERSATIONS: list[dict[str, Any]] = [
    {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "sky?"}],
        "chosen": [{"role": "assistant", "content": "blue"}],
        "rejected": [{"role": "assistant", "content": "green"}],
        "chat_template_kwargs": {"enable_thinking": True},
    }
]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ""])
@pytest.mark.parametrize("rows", [TRL_ROWS, TRL_CONVERSATIONS], ids=["standard", "conversational"])
def test_trls_rows_come_back_as_they_were(tmp_path: Path, suffix: str, rows: list[dict[str, Any]]) -> None:
    source = tmp_path / f"trl{suffix}"
    if suffix == ".jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".json":
        source.write_text(json.dumps(rows))
    elif suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(source))
    else:
        datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(str(source))
    import_pairs(source, tmp_path / "pairs.jsonl", split="train" if not suffix else None)
    form: Literal["conversational", "standard"] = "standard" if rows is TRL_ROWS else "conversational"
    export_pairs(tmp_path / "pairs.jsonl", tmp_path / "back.jsonl", form=form)
    back = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in rows[0]} for row in back] == rows


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        {"chosen": "same", "rejected": "other"},
        {
            "chosen": [{"role": "user", "content": "sky?"}, {"role": "assistant", "content": "blue"}],
            "rejected": [{"role": "user", "content": "sky?"}, {"role": "assistant", "content": "green"}],
        },
    ],
)
def test_an_implicit_prompt_is_found_where_trl_finds_it(row: dict[str, Any]) -> None:
    expected = extract_prompt(dict(row))
    pair = from_trl(row, "r")
    if isinstance(row["chosen"], str):
        assert pair.prompt == ({"role": "user", "content": expected["prompt"]},)
        assert (pair.chosen.text, pair.rejected.text) == (expected["chosen"], expected["rejected"])
    else:
        assert list(pair.prompt) == expected["prompt"]
        assert [{"role": "assistant", "content": pair.chosen.text}] == expected["chosen"]


def test_an_implicit_prompt_does_not_end_inside_a_word() -> None:
    pair = from_trl({"chosen": "The capital is Paris", "rejected": "The capital is Parma"}, "r")
    assert pair.prompt[0]["content"] == "The capital is"
    assert (pair.chosen.text, pair.rejected.text) == (" Paris", " Parma")


def test_a_row_that_was_edited_counts_as_it_stands() -> None:
    row = {**to_trl(RICH), "chosen": [{"role": "assistant", "content": "edited"}]}
    pair = from_trl(row, "r")
    assert pair.chosen.spans == (Span("edited"),)
    assert pair.chosen.thinking
    assert from_trl({**to_trl(RICH), "task": "another"}, "r") == replace(RICH, task="another")


MESSAGES = [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": "c"}, "'rejected' holds neither"),
        ({"prompt": "p", "chosen": "c", "rejected": MESSAGES}, "all be text"),
        ({"prompt": "p", "chosen": MESSAGES, "rejected": MESSAGES}, "all be text"),
        ({"prompt": list(ASKED), "chosen": MESSAGES * 2, "rejected": MESSAGES}, "'chosen' is not one assistant"),
        ({"prompt": list(ASKED), "chosen": list(ASKED), "rejected": MESSAGES}, "'chosen' is not one assistant"),
        ({"prompt": [{"role": "gpt", "content": "x"}], "chosen": MESSAGES, "rejected": MESSAGES}, "a message of 'gpt'"),
        ({"prompt": [{"role": "user"}], "chosen": MESSAGES, "rejected": MESSAGES}, "not just a role and a text"),
        ({"prompt": "p", "chosen": "c", "rejected": "r", "tools": ["t"]}, "tools"),
        ({"prompt": "p", "chosen": "c", "rejected": "r", "chat_template_kwargs": {"a": 1}}, "'a'; only"),
        (
            {"prompt": "p", "chosen": "c", "rejected": "r", "chat_template_kwargs": {"enable_thinking": "no"}},
            'enable_thinking is "no", not true or false',
        ),
        ({"prompt": "p", "chosen": "c", "rejected": "r", "prefdelta": "{"}, "damaged"),
        ({"prompt": "p", "chosen": "c", "rejected": "r", "prefdelta": "[" * 100_000}, "damaged"),
    ],
)
def test_what_a_pair_cannot_hold_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(PrefdeltaError, match=message):
        from_trl(row, "r")


def test_files_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", [RICH])
    with pytest.raises(PrefdeltaError, match="export it as conversational"):
        export_pairs(tmp_path / "pairs.jsonl", tmp_path / "o.jsonl", form="standard")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "keep").write_text("mine")
    with pytest.raises(PrefdeltaError, match=r"did not write \(keep\)"):
        export_pairs(tmp_path / "pairs.jsonl", tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl", "there"]
    rows = [{"id": "x", "prompt": "p", "chosen": "c", "rejected": "r", "margin": 1}] * 2
    (tmp_path / "twice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(PrefdeltaError, match="one id"):
        import_pairs(tmp_path / "twice.jsonl", tmp_path / "o.jsonl")
    (tmp_path / "once.jsonl").write_text(json.dumps(rows[0]))
    assert import_pairs(tmp_path / "once.jsonl", tmp_path / "o.jsonl") == "1 pairs; columns left out: margin"
    same = [{"prompt": "p", "chosen": "c", "rejected": "c"}, {"prompt": "p", "chosen": "c", "rejected": "d"}]
    (tmp_path / "same.jsonl").write_text("".join(json.dumps(row) + "\n" for row in same))
    told = import_pairs(tmp_path / "same.jsonl", tmp_path / "same_pairs.jsonl")
    assert told.startswith("2 pairs; 1 of them prefer an answer to itself")
    assert read_rows(tmp_path / "o.jsonl", Pair)[0].id == "x"
    for name, text in (("bad.jsonl", "{"), ("bad.json", "{}"), ("empty.jsonl", ""), ("bad.parquet", "x")):
        (tmp_path / name).write_text(text)
        (tmp_path / "o.jsonl").unlink(missing_ok=True)
        with pytest.raises(PrefdeltaError, match=name.replace(".", r"\.")):
            import_pairs(tmp_path / name, tmp_path / "o.jsonl")
    with pytest.raises(PrefdeltaError, match=r"give a \.jsonl"):
        import_pairs(tmp_path / "x.csv", tmp_path / "o.jsonl")
