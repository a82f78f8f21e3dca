"""The line search over log λ on scores whose optimum is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.merging.tuning import Candidate, Space, tune
from prefdelta.merging.tuning.choice import choose
from prefdelta.merging.tuning.line_search import maximise


class Counted:
    def __init__(self, score: Callable[[float], float]) -> None:
        self._score = score
        self.asked: list[float] = []

    def __call__(self, scale: float) -> float:
        self.asked.append(scale)
        return self._score(scale)


def hill(optimum: float, left: float = 1.0, right: float = 1.0) -> Callable[[float], float]:
    """Unimodal in log λ, with a slope of its own on each side."""

    def score(scale: float) -> float:
        off = math.log(scale / optimum)
        return -(right if off > 0 else left) * abs(off)

    return score


@given(st.floats(-1.0, 5.0), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.01, 100))
def test_a_unimodal_optimum_is_found_within_ten_percent(place: float, left: float, right: float, start: float) -> None:
    optimum = start * 2**place
    score = Counted(hill(optimum, left, right))
    found = maximise(score, start, 16)
    assert abs(math.log(found / optimum)) < math.log(1.12)
    assert len(score.asked) == len(set(score.asked)) <= 16


@given(st.floats(-4, 9), st.integers(5, 12))
def test_the_budget_is_kept_and_the_best_of_what_was_asked_is_returned(place: float, budget: int) -> None:
    score = Counted(hill(2**place))
    found = maximise(score, 1.0, budget)
    assert len(score.asked) == len(set(score.asked)) <= budget
    assert found == max(score.asked, key=hill(2**place))


def test_an_optimum_out_of_reach_is_the_edge() -> None:
    for optimum, side in ((1e6, "largest"), (1e-6, "smallest")):
        score = Counted(hill(optimum))
        found = maximise(score, 1.0, 9)
        scores = {scale: hill(optimum)(scale) for scale in score.asked}
        assert choose(scores, lambda scale: (None, scale)).edge == side
        assert found == choose(scores, lambda scale: (None, scale)).best


def test_a_wider_bracket_reaches_an_optimum_beyond_the_first() -> None:
    score = Counted(hill(40.0))
    assert maximise(score, 1.0, 12) == pytest.approx(40.0, rel=0.12)
    assert score.asked[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]


def test_noise_costs_little() -> None:
    """Noise of a tenth of what a factor of two changes: the true score lost stays within that noise."""
    lost = []
    for seed in range(200):
        generator = random.Random(seed)
        true = hill(generator.uniform(1, 12))
        found = maximise(lambda scale, g=generator, t=true: t(scale) + g.gauss(0, 0.07), 1.5, 9)  # type: ignore[misc]
        lost.append(-true(found))
    assert sum(lost) / len(lost) < 0.15


def test_a_flat_score_keeps_the_smallest_and_goes_no_further_than_its_budget() -> None:
    score = Counted(lambda _: 1.0)
    assert maximise(score, 1.0, 7) == min(score.asked)
    assert len(score.asked) == 7


@given(count=st.integers(1, 4), select=st.booleans(), left_out=st.booleans(), optimum=st.floats(0.5, 20))
def test_tuning_searches_every_merge_by_itself(count: int, select: bool, left_out: bool, optimum: float) -> None:
    asked: list[Candidate] = []

    def score(candidate: Candidate) -> float:
        asked.append(candidate)
        assert not isinstance(candidate.scale, str)
        return len(candidate.members) - abs(math.log(candidate.scale / optimum / len(candidate.members)))

    space = Space(("average", "gam"), "auto", select, left_out, budget=14)
    found = tune(score, count, space, start=lambda candidate: float(len(candidate.members)))
    assert len(asked) == len(set(asked))
    assert len(asked) + 1 <= space.evaluations(count)
    assert found.chosen.members == tuple(range(count))
    assert abs(math.log(float(found.chosen.scale) / optimum / count)) < math.log(1.12)
