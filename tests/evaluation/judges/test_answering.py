"""Writing answers to benchmark questions, with the embedded student."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prefdelta.cli import app
from prefdelta.core.models import load
from prefdelta.core.records import Sample
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.evaluation.judges.answering import answer_turns, temperature
from prefdelta.evaluation.judges.answers import Question, read_answers
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import Request
from prefdelta.recipe import ModelRef, Sampling

QUESTIONS = [Question("1", ("2 + 2", "3 + 3"), "writing"), Question("2", ("1 + 5", "4 + 4"), "math")]


class Watched:
    """The student's sampler; it notes what is asked, and gives up after so many answers."""

    def __init__(self, degree: float, seen: list[tuple[float, Request]], stop_after: int) -> None:
        self.degree, self.seen, self.stop_after = degree, seen, stop_after
        sampling = Sampling(temperature=degree, max_new_tokens=6)
        self.inner = TransformersSampler(load(ModelRef(path="micro:student")), sampling)
        self.together = self.inner.together

    def describe(self) -> Mapping[str, Any]:
        return self.inner.describe()

    def stream(self, requests: Sequence[Request], done: Container[int] = ()) -> Iterator[list[tuple[int, Sample]]]:
        if len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += [(self.degree, request) for request in requests]
        yield from self.inner.stream(requests, done)


def run(log: Path, stop_after: int = 99) -> tuple[dict[str, list[str]], list[tuple[float, Request]]]:
    seen: list[tuple[float, Request]] = []
    return answer_turns(QUESTIONS, lambda t: Watched(t, seen, stop_after), ResumableRows(log), 0, "w"), seen


def test_second_turn_temperatures_and_resuming(tmp_path: Path) -> None:
    said, seen = run(tmp_path / "whole")
    assert [(degree, request.item.id) for degree, request in seen] == [
        (0.0, "2#1"), (0.7, "1#1"), (0.0, "2#2"), (0.7, "1#2"),
    ]  # fmt: skip
    for _, request in seen[2:]:
        name = request.item.id[0]
        assert [m["role"] for m in request.item.messages] == ["user", "assistant", "user"]
        assert request.item.messages[1]["content"] == said[name][0] != ""
    for stop in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(stop), stop)
        again, asked = run(tmp_path / str(stop))
        assert again == said
        assert len(asked) == 4 - stop


def test_the_judge_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    rows = [{"question_id": int(q.id), "category": q.category, "turns": q.turns} for q in QUESTIONS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["answer", path, "micro:student", "--max-new-tokens", "6", "-o"]
    for name in ("a", "b"):
        done = CliRunner().invoke(app, [*map(str, words), str(tmp_path / name)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "a" / "answers.jsonl").read_bytes() == (tmp_path / "b" / "answers.jsonl").read_bytes()
    found = read_answers(tmp_path / "a" / "answers.jsonl")
    assert not found.malformed
    assert {name: len(row.turns) for name, row in found.rows.items()} == {"1": 2, "2": 2}


def test_categories() -> None:
    for category, wanted in {"roleplay": 0.7, "stem": 0.1, "humanities": 0.1, "coding": 0.0, "other": 0.7}.items():
        assert temperature(Question("x", ("?",), category)) == wanted
