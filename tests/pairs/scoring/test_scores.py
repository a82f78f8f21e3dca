"""Scoring with a kill in between, by rule, and from a file."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Sample, Score, Span, read_rows, write_rows
from prefdelta.core.shard import Shard
from prefdelta.pairs.scoring.programmatic import ProgrammaticScorer
from prefdelta.pairs.scoring.scores import import_scores, score_responses

ITEMS = [Item(f"i{number}", "t", ({"role": "user", "content": "?"},), (str(number),)) for number in range(5)]
SAMPLES = [
    Sample(f"i{number}", (Span(f"<answer>{number + index}</answer>"),), "stop", 1, index=index)
    for number in range(5)
    for index in range(2)
]


class ByLength:
    """Scores by length, in groups of three; dies after some."""

    together = 3

    def __init__(self, groups: int = 99, wrong: float | None = None) -> None:
        self.left = groups
        self.wrong = wrong

    def describe(self) -> Mapping[str, Any]:
        return {"by": "length"}

    def stream(
        self, answers: Sequence[tuple[Item, Sample]], done: Container[int] = ()
    ) -> Iterator[list[tuple[int, float]]]:
        for start in range(0, len(answers), 3):
            places = range(start, min(start + 3, len(answers)))
            if all(place in done for place in places):
                continue
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield [(place, len(answers[place][1].text) if self.wrong is None else self.wrong) for place in places]


def test_rows_are_in_the_order_of_the_answers_and_right_answers_score_one(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    scores = score_responses(
        ITEMS, SAMPLES, ProgrammaticScorer("exact-match"), tmp_path, lambda done, total: seen.append((done, total))
    )
    assert scores == [Score(f"i{number}", index, float(index == 0)) for number in range(5) for index in range(2)]
    assert read_rows(tmp_path / "scores.jsonl", Score) == scores
    assert seen[-1] == (10, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]


def test_shards_in_order_are_the_whole(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    score_responses(ITEMS, SAMPLES, ByLength(), tmp_path / "whole")
    parts = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        score_responses(ITEMS, SAMPLES, ByLength(), tmp_path / str(number), shard=Shard(number, 3))
        parts.append((tmp_path / str(number) / "scores.jsonl").read_bytes())
    assert b"".join(parts) == (tmp_path / "whole" / "scores.jsonl").read_bytes()
    assert [part.count(b"\n") for part in parts] == [3, 3, 4]


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path, groups: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    score_responses(ITEMS, SAMPLES, ByLength(), whole)
    with pytest.raises(KeyboardInterrupt):
        score_responses(ITEMS, SAMPLES, ByLength(groups), broken)
    score_responses(ITEMS, SAMPLES, ByLength(4 - groups), broken)
    assert (broken / "scores.jsonl").read_bytes() == (whole / "scores.jsonl").read_bytes()
    assert [path.name for path in broken.iterdir()] == ["scores.jsonl"]


def test_what_cannot_be_scored_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="'gone' is to none of the 5 prompts"):
        score_responses(ITEMS, [Sample("gone", (), "stop", 0)], ByLength(), tmp_path)
    with pytest.raises(PrefdeltaError, match="answer 0 to 'i0' is nan"):
        score_responses(ITEMS, SAMPLES, ByLength(wrong=math.nan), tmp_path)
    bare = [Item("i0", "t", ({"role": "user", "content": "?"},))]
    with pytest.raises(PrefdeltaError, match="'i0' has no gold answer"):
        score_responses(bare, SAMPLES[:1], ProgrammaticScorer("choice"), tmp_path)
    with pytest.raises(PrefdeltaError, match="did you mean 'choice'"):
        ProgrammaticScorer("choise")


def test_scores_from_a_file_are_joined_by_item_and_index(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    rows = [Score(sample.item, sample.index, 0.5 * sample.index) for sample in reversed(SAMPLES)]
    write_rows(path, [*rows, Score("more", 0, 1.0)])
    assert import_scores(path, SAMPLES) == rows[::-1]
    write_rows(path, rows[1:])
    with pytest.raises(PrefdeltaError, match="no score of the answer 1 to 'i4'"):
        import_scores(path, SAMPLES)
    write_rows(path, [*rows, rows[0]])
    with pytest.raises(PrefdeltaError, match="scores the answer 1 to 'i4' twice"):
        import_scores(path, SAMPLES)
    path.write_text('{"item": "i0", "index": 0, "score": "high"}\n')
    with pytest.raises(PrefdeltaError, match="'high', not a finite number"):
        import_scores(path, SAMPLES[:1])
