"""A short attack on all readers of rows; the long form is ``benchmarks/fuzz_rows.py``."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.jsonl import parse_json
from prefdelta.core.records import Item, read_rows
from row_fuzz import attack, spoiled

GOOD = '{"id":"a","task":"t","messages":[{"role":"user","content":"2+2?"}]}'


def test_spoiled_files_are_read_or_refused_in_a_sentence_that_names_them(tmp_path: Path) -> None:
    found, wrong = attack(tmp_path, seed=1, count=400)
    assert not wrong
    total = sum(found.values(), start=type(next(iter(found.values())))())
    assert total["read"] > 10
    assert total["refused"] > 100


def test_the_attack_spoils_files() -> None:
    draw = random.Random(0)
    assert len({spoiled([{"a": 1}] * 3, draw, lines=True) for _ in range(50)}) > 30


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id":NaN}', "NaN is no number"),
        ('{"id":-Infinity}', "-Infinity is no number"),
        ('{"id":1e999}', "1e999 is too large"),
        ('{"id":' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"id":"a","id":"b"}', "the key 'id' comes twice"),
        ('{"id":"\\ud800"}', "half of a surrogate pair"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("[1]", "not a JSON object but a list"),
        ("null", "not a JSON object but null"),
        ('"x"', "not a JSON object but a text"),
        ("3", "not a JSON object but a number"),
        ("{'id': 1}", "not valid JSON"),
        ('{"id":"a"', "not valid JSON"),
        ('{"id":"a"}{"id":"b"}', "not valid JSON"),
        ('{"id":"a","task":"t"}', "no column 'messages'"),
        ('{"id":"a","task":"t","messages":"x"}', "not a list"),
        ('{"id":"a","task":"t","messages":[{"role":"user"}]}', "not a role and a text"),
        ('{"id":"a","task":"t","messages":[["user","x"]]}', "not a role and a text"),
        ('{"id":"a","task":3,"messages":[]}', "'task' is 3, not a text"),
        ('{"id":null,"task":"t","messages":[]}', "'id' is None, not a text"),
        ('{"id":"a","task":"t","messages":[],"answers":"4"}', "'answers' is not a list of texts"),
        ('{"id":"a","task":"t","messages":[],"question":"q"}', "question"),
    ],
)
def test_a_malformed_row_is_named_with_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n", encoding="utf-8", errors="surrogatepass")
    with pytest.raises(PrefdeltaError, match=r"items\.jsonl, line 3: ") as caught:
        read_rows(path, Item)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("raw", [b"\xff\xfe{\x00}\x00", b"\xc3\x28", b'{"id":"\xed\xa0\x80"}'])
def test_what_is_not_utf8_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(raw)
    with pytest.raises(PrefdeltaError, match=r"items\.jsonl, line 1: not valid JSON"):
        read_rows(path, Item)


def test_a_row_is_read_whatever_separates_lines_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    odd = "a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg"
    row = {"id": 5, "task": odd, "messages": [{"role": "user", "content": odd}]}
    path.write_bytes(("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n\r\n").encode() * 1)
    (item,) = read_rows(path, Item)
    assert (item.id, item.task, item.messages[0]["content"]) == ("5", odd, odd)
    assert parse_json('{"a": "\\ud83d\\ude00"}') == {"a": "😀"}
