"""Normalised accuracies and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.score_table import ScoreTable
from prefdelta.experiments.suites.accuracy_tables import hits_table, normalised_accuracy, shares_table
from prefdelta.experiments.suites.measure import Outcome


def drawn(accuracy: float, seed: int, items: int = 400) -> Outcome:
    return Outcome(torch.rand(items, generator=torch.Generator().manual_seed(seed)) < accuracy)


def shares(merged: list[Outcome], single: list[Outcome], **others: list[Outcome]) -> ScoreTable:
    """One task "t", one seed an outcome."""
    methods = {"merged": merged, **others}
    rows = {name: {seed: {"t": outcome} for seed, outcome in enumerate(found)} for name, found in methods.items()}
    return shares_table(rows, {seed: {"t": outcome} for seed, outcome in enumerate(single)}, ["t"])


def test_the_mean_is_the_ratio_of_accuracies() -> None:
    merged, single = [drawn(0.6, 1), drawn(0.5, 2)], [drawn(0.8, 3), drawn(0.9, 4)]
    expected = [100 * ours.accuracy / theirs.accuracy for ours, theirs in zip(merged, single, strict=True)]
    assert list(shares(merged, single).per_seed("merged").values()) == pytest.approx(expected)


def test_an_adapter_is_exactly_itself() -> None:
    outcome = drawn(0.7, 1)
    found = shares([outcome], [outcome]).mean("merged")
    assert (found.mean, found.low, found.high) == (100, 100, 100)


def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        right = generator.random((2, 300)) < np.array([[0.8], [0.6]])
        single, merged = (Outcome(torch.from_numpy(row)) for row in right)
        found = shares([merged], [single]).mean("merged")
        covered += found.low <= 75 <= found.high
    assert 180 <= covered <= 198


def test_methods_are_compared_item_by_item() -> None:
    better = [drawn(0.7, 2)]
    gap = shares(better, [drawn(0.8, 1)], other=better).difference("merged", "other")
    assert (gap.mean, gap.low, gap.high) == (0, 0, 0)


def test_hits_pool_items() -> None:
    first = Outcome(torch.ones(2, dtype=torch.bool), torch.tensor([0, 3]))
    second = Outcome(torch.ones(4, dtype=torch.bool), torch.tensor([1, 1, 0, 9]))
    rows = {"merged": {0: {"a": first, "b": second}}}
    assert hits_table(rows, ["a", "b"], 1).score("merged") == pytest.approx(100 * 2 / 6)
    assert hits_table(rows, ["a", "b"], 5).score("merged") == pytest.approx(100 * 5 / 6)


def test_an_adapter_that_gets_nothing_right_is_refused() -> None:
    nothing = Outcome(torch.zeros(5, dtype=torch.bool))
    with pytest.raises(PrefdeltaError, match="no test item right"):
        shares([nothing], [nothing])


def test_normalised_accuracy() -> None:
    assert normalised_accuracy({"a": 0.9, "b": 0.3}, {"a": 0.6, "b": 0.6}) == {"a": 150.0, "b": 50.0}
    with pytest.raises(PrefdeltaError, match="'b' has accuracy 0"):
        normalised_accuracy({"b": 1.0}, {"b": 0.0})
