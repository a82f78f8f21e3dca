"""Answers and questions in the layouts that they are published in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Record, Sample, Span, write_rows
from prefdelta.evaluation.judges.answers import read_answers, read_questions
from prefdelta.generation.datasets.alpaca_eval import item_id


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_alpaca_eval(shared_data: Path) -> None:
    found = read_answers(shared_data / "outputs" / "alpaca_eval" / "gemma-2b-it" / "model_outputs.json")
    assert (found.model, len(found.rows), found.malformed) == ("gemma-2b-it", 805, ())
    assert sum(not row.turns[0] for row in found.rows.values()) == 22
    phi = read_answers(shared_data / "outputs" / "alpaca_eval" / "phi-2" / "model_outputs.json")
    assert len(phi.rows.keys() & found.rows.keys()) == len(phi.rows)


def test_arena_hard(shared_data: Path) -> None:
    folder = shared_data / "judge" / "arena-hard-v0.1"
    questions, malformed = read_questions(folder / "question.jsonl")
    answers = read_answers(folder / "model_answer" / "gpt-4-0613.jsonl")
    assert (len(questions), malformed) == (500, ())
    assert (answers.model, answers.malformed) == ("gpt-4-0613", ())
    assert answers.rows.keys() == questions.keys()


def test_mt_bench(shared_data: Path) -> None:
    folder = shared_data / "judge" / "mt_bench"
    questions, malformed = read_questions(folder / "question.jsonl")
    assert (len(questions), malformed) == (80, ())
    assert {len(question.turns) for question in questions.values()} == {2}
    references = read_answers(folder / "reference_answer" / "gpt-4.jsonl")
    wanted = {name for name, entry in questions.items() if entry.category in ("math", "reasoning", "coding")}
    assert references.rows.keys() == wanted


def test_our_own_layouts(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    record = Record("t", "q1", 1.0, "x", "<think>hm</think>yes", False, 3, answer_start=17)
    write_rows(tmp_path / "mine" / "records.jsonl", [record])
    found = read_answers(tmp_path / "mine")
    assert (found.model, found.rows["q1"].turns) == ("mine", ("yes",))
    spans = (Span("<think>hm</think>"), Span("no"))
    write_rows(tmp_path / "responses.jsonl", [Sample("q1", spans, "stop", 3, thinking=True)])
    assert read_answers(tmp_path / "responses.jsonl").rows["q1"].turns == ("no",)
    write_rows(tmp_path / "items.jsonl", [Item("q1", "t", ({"role": "user", "content": "why?"},))])
    questions, _ = read_questions(tmp_path / "items.jsonl")
    assert questions["q1"].turns == ("why?",)
    two = Item("q1", "t", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "why?"}))
    write_rows(tmp_path / "items.jsonl", [two])
    assert read_questions(tmp_path / "items.jsonl")[0]["q1"].turns == ("system: Be brief.\n\nuser: why?",)


def test_a_name_that_is_null_is_none(tmp_path: Path) -> None:
    said = write(tmp_path / "said.jsonl", [{"instruction": "why?", "output": "so", "generator": None}])
    assert read_answers(said).model == "said"
    asked = write(tmp_path / "asked.jsonl", [{"question_id": 1, "turns": ["why?"], "category": None}])
    assert read_questions(asked)[0]["1"].category == ""


def test_bad_rows_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    good = {"instruction": "Say hi.", "output": "hi", "generator": "me"}
    path = write(
        tmp_path / "answers.jsonl",
        [good, "{broken", "[]", "null", "3", {"instruction": "x"}, {"instruction": "y", "output": None}, good,
         {"question_id": 1, "choices": []}, {"uid": "u", "messages": [{"role": "assistant"}]}, "[" * 100_000,
         {"uid": "u", "messages": [{"role": "assistant", "content": "a"}], "metadata": {"token_len": "?"}}],
    )  # fmt: skip
    found = read_answers(path)
    assert list(found.rows) == [item_id("Say hi.")]
    assert len(found.malformed) == 11
    assert found.malformed[0].startswith("answers.jsonl, line 2: not valid JSON")
    assert found.malformed[6].endswith("is there twice")


def test_answers_are_read_with_a_byte_order_mark_and_compressed(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {word}.", "output": word, "generator": "me"} for word in ("hi", "line\u2028break")]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    (tmp_path / "marked.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(rows).encode())
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(lines))
    for name in ("marked.jsonl", "marked.json", "packed.jsonl.gz"):
        found = read_answers(tmp_path / name)
        assert ([row.turns[0] for row in found.rows.values()], found.malformed) == (["hi", "line\u2028break"], ())


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"no row of .*empty\.jsonl can be read"):
        read_answers(write(tmp_path / "empty.jsonl", []))
    with pytest.raises(PrefdeltaError, match=r"no row of .*\(bad\.jsonl, line 1: ValueError none of the known layouts"):
        read_answers(write(tmp_path / "bad.jsonl", [{"a": 1}]))
    with pytest.raises(PrefdeltaError, match="No such file"):
        read_answers(tmp_path / "none.jsonl")
    with pytest.raises(PrefdeltaError, match=r"no row of .*\(map\.json, line 1: ValueError none of the known layouts"):
        read_answers(write(tmp_path / "map.json", [{"a": 1}]))
    with pytest.raises(PrefdeltaError, match="is not valid JSON"):
        read_answers(write(tmp_path / "broken.json", ["{"]))
    with pytest.raises(PrefdeltaError, match="holds none of"):
        read_answers(tmp_path)
