"""Normalised accuracies and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prefdelta.errors import PrefdeltaError
from prefdelta.suite.measure import Outcome
from prefdelta.suite.statistics import difference, hits, shares, summary


def drawn(accuracy: float, seed: int, items: int = 400) -> Outcome:
    return Outcome(torch.rand(items, generator=torch.Generator().manual_seed(seed)) < accuracy)


def test_the_mean_is_the_ratio_of_accuracies() -> None:
    merged, single = [drawn(0.6, 1), drawn(0.5, 2)], [drawn(0.8, 3), drawn(0.9, 4)]
    found = shares(merged, single)
    expected = [100 * ours.accuracy / theirs.accuracy for ours, theirs in zip(merged, single, strict=True)]
    assert found.mean(axis=1) == pytest.approx(expected)


def test_an_adapter_is_exactly_itself() -> None:
    outcome = drawn(0.7, 1)
    assert shares([outcome], [outcome]) == pytest.approx(100)
    assert summary([shares([outcome], [outcome])]) == {"mean": 100, "low": 100, "high": 100}


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        right = generator.random((2, 300)) < np.array([[0.8], [0.6]])
        single, merged = (Outcome(torch.from_numpy(row)) for row in right)
        found = summary([shares([merged], [single])])
        covered += found["low"] <= 75 <= found["high"]
    assert 180 <= covered <= 198


def test_methods_are_compared_item_by_item() -> None:
    single = [drawn(0.8, 1)]
    better = [drawn(0.7, 2)]
    gap = difference([shares(better, single)], [shares(better, single)])
    assert (gap.mean, gap.low, gap.high) == (0, 0, 0)


def test_hits_pool_items() -> None:
    first = Outcome(torch.ones(2, dtype=torch.bool), torch.tensor([0, 3]))
    second = Outcome(torch.ones(4, dtype=torch.bool), torch.tensor([1, 1, 0, 9]))
    assert hits([[first, second]], 1).mean() == pytest.approx(100 * 2 / 6)
    assert hits([[first, second]], 5).mean() == pytest.approx(100 * 5 / 6)


def test_an_adapter_that_gets_nothing_right_is_refused() -> None:
    nothing = Outcome(torch.zeros(5, dtype=torch.bool))
    with pytest.raises(PrefdeltaError, match="no test item right"):
        shares([nothing], [nothing])
