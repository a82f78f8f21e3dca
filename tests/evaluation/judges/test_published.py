"""Against what AlpacaEval itself published about phi-2."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefdelta.evaluation.judges.lengthcontrol import length_controlled
from prefdelta.evaluation.judges.pairwise import win_rate
from prefdelta.evaluation.judges.verdicts import chosen_letter
from prefdelta.generation.completion import Completion, read_completion

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def annotations(shared_data: Path) -> list[dict[str, Any]]:
    path = shared_data / "outputs" / "alpaca_eval" / "phi-2" / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
    return list(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, float]:
    with (shared_data / "outputs" / "alpaca_eval" / "leaderboard.csv").open(encoding="utf-8") as handle:
        (row,) = [row for row in csv.DictReader(handle) if row[""] == "phi-2"]
    return {name: float(value) for name, value in row.items() if name not in ("", "mode") and value}


def preferences(rows: list[dict[str, Any]]) -> list[float]:
    return [0.5 if row["preference"] in (0, 1.5) else row["preference"] - 1 for row in rows]


def test_raw_win_rate(annotations: list[dict[str, Any]], published: dict[str, float]) -> None:
    found = win_rate(preferences(annotations))
    assert found["win_rate"] == pytest.approx(published["win_rate"], abs=1e-9)
    assert (found["wins"], found["losses"], found["ties"]) == (
        published["n_wins"],
        published["n_wins_base"],
        published["n_draws"],
    )
    assert found["items"] == published["n_total"]


def test_preferences_are_read_from_the_published_replies(annotations: list[dict[str, Any]]) -> None:
    """Their raw completions, through our parser, give their preferences. Which answer was shown first is not
    published, so a preference may also come out turned around."""
    checked = 0
    for row in annotations:
        if row["raw_completion"] is None:
            continue
        reply = read_completion(json.dumps({"choices": [row["raw_completion"]]}).encode())
        assert isinstance(reply, Completion)
        verdict = chosen_letter(reply)
        assert verdict is not None
        second = row["preference"] - 1
        assert min(abs(verdict.first - second), abs(1 - verdict.first - second)) < 1e-6
        checked += 1
    assert checked == 800


def test_length_controlled_win_rate(annotations: list[dict[str, Any]], published: dict[str, float]) -> None:
    """The published number used item difficulties and gamed baselines, files that are not at hand; without both the
    win rate comes out within 0.1 points of it."""
    found = length_controlled(
        preferences(annotations),
        [len(row["output_2"]) for row in annotations],
        [len(row["output_1"]) for row in annotations],
    )
    assert found.win_rate == pytest.approx(4.32, abs=0.01)
    assert found.win_rate == pytest.approx(published["length_controlled_winrate"], abs=0.1)


def test_the_missing_difficulties_move_it_by_less_than_a_third_of_a_point(
    annotations: list[dict[str, Any]], published: dict[str, float]
) -> None:
    """The published fit has a coefficient of 0.46 for the difficulties. Made-up ones that come near it leave the win
    rate within 0.3 points."""
    p = np.array(preferences(annotations))
    logit = np.clip(np.log(p + 1e-9) - np.log1p(1e-9 - p), -8, 8)
    noise = np.random.default_rng(0).normal(size=p.size)
    found = length_controlled(
        p.tolist(),
        [len(row["output_2"]) for row in annotations],
        [len(row["output_1"]) for row in annotations],
        difficulties=(0.1 * (logit - logit.mean()) / logit.std() + noise).tolist(),
    )
    assert 0.3 < found.coefficients["difficulty"] < 1.0
    assert abs(found.win_rate - published["length_controlled_winrate"]) < 0.3
