"""Rows on disk: what is no number is refused where it is read, with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record, Sample, Score, read_rows

RECORD = {"task": "t", "item": "i", "score": 1, "parsed": "x", "output": "x", "truncated": False, "tokens": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, "NaN is no number in JSON"),
        ({"score": float("inf")}, "Infinity is no number in JSON"),
        ({"score": None}, "score is None, not a finite number"),
        ({"score": "1"}, "score is '1', not a finite number"),
        ({"score": True}, "score is True, not a finite number"),
        ({"score": 100}, "score is 100, not a number from 0 to 1"),
        ({"score": -0.1}, "score is -0.1, not a number from 0 to 1"),
        ({"tokens": None}, "tokens is None, not a finite number"),
        ({"tokens": -1}, "tokens is -1, not a number of 0 or more"),
        ({"extra": {"em": float("nan")}}, "NaN is no number in JSON"),
    ],
)
def test_a_record_that_holds_no_numbers_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (RECORD, {**RECORD, **change})))
    with pytest.raises(PrefdeltaError, match=message) as found:
        read_rows(path, Record)
    assert f"{path}, line 2: " in str(found.value)


def test_a_number_too_large_to_be_finite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(RECORD).replace('"score": 1', '"score": 1e999') + "\n")
    with pytest.raises(PrefdeltaError, match=r"line 1: .*the number 1e999 is too large"):
        read_rows(path, Record)


@pytest.mark.parametrize(
    ("span", "finish", "message"),
    [
        ({"source": "user"}, "stop", "source is 'user', none of model, environment"),
        ({"source": None}, "stop", "source is None, none of model, environment"),
        ({}, "done", "finish is 'done', none of stop, length, unknown"),
    ],
)
def test_a_word_that_has_no_meaning_is_refused(span: dict[str, Any], finish: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    path.write_text(json.dumps({"item": "i", "spans": [{"text": "x", **span}], "finish": finish, "tokens": 1}) + "\n")
    with pytest.raises(PrefdeltaError, match=message):
        read_rows(path, Sample)


def test_a_reward_may_be_any_finite_number(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps({"item": "i", "index": 0, "score": -12.5}) + "\n")
    assert read_rows(path, Score)[0].score == -12.5
    path.write_text('{"item": "i", "index": 0, "score": NaN}\n')
    with pytest.raises(PrefdeltaError, match=r"line 1: .*NaN is no number in JSON"):
        read_rows(path, Score)
