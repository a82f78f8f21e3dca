"""Measures of merges, against their dense definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_fixtures import random_update, regauged
from prefdelta.errors import PrefdeltaError
from prefdelta.learning import metrics
from prefdelta.lowrank import LowRank

SHAPE = (8, 7)


def dense_effective_rank(matrix: torch.Tensor) -> float:
    s = torch.linalg.svdvals(matrix)
    p = s[s > 1e-12] / s.sum()
    return float(torch.exp(-(p * p.log()).sum()))


def test_effective_rank_of_known_spectra():
    assert metrics.effective_rank(torch.ones(5)) == pytest.approx(5)
    assert metrics.effective_rank(torch.tensor([3.0, 0.0, 0.0])) == pytest.approx(1)
    assert metrics.effective_rank(torch.zeros(3)) == 0
    # Not squared: with p = (2/3, 1/3), not (4/5, 1/5).
    expected = math.exp(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
    assert metrics.effective_rank(torch.tensor([2.0, 1.0])) == pytest.approx(expected)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
@settings(max_examples=20)
def test_coverage_is_the_dense_one(ranks):
    deltas = [random_update(seed, SHAPE, rank) for seed, rank in enumerate(ranks)]
    found = metrics.coverage(deltas)
    assert found.separate == pytest.approx(sum(dense_effective_rank(d.dense()) for d in deltas if d.rank), rel=1e-9)
    rows = [d.dense().reshape(-1) for d in deltas]
    if any(ranks):
        assert found.agnostic == pytest.approx(dense_effective_rank(torch.stack(rows)), rel=1e-6)
        terms = []
        for delta in deltas:
            u, s, v = delta.svd()
            terms += [(s[k] * torch.outer(u[:, k], v[:, k])).reshape(-1) for k in range(len(s))]
        assert found.aware == pytest.approx(dense_effective_rank(torch.stack(terms)), rel=1e-6)
    assert found.agnostic <= len(ranks) + 1e-9


def test_coverage_of_equal_and_of_orthogonal_updates():
    one = random_update(0, SHAPE, 2)
    same = metrics.coverage([one, regauged(one, 1), one])
    assert same.separate == pytest.approx(3 * metrics.coverage([one]).separate)
    assert same.aware == pytest.approx(same.separate / 3, rel=1e-5)
    assert same.agnostic == pytest.approx(1, rel=1e-4)
    top = LowRank(torch.eye(8, 2, dtype=torch.float64), torch.eye(2, 7, dtype=torch.float64))
    low = LowRank(torch.eye(8, dtype=torch.float64)[:, 4:6], torch.eye(7, dtype=torch.float64)[4:6])
    apart = metrics.coverage([top, low])
    assert apart.aware == pytest.approx(apart.separate) == pytest.approx(4)
    assert apart.agnostic == pytest.approx(2)


def test_anisotropy():
    assert metrics.anisotropy(torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])) == pytest.approx(3)
    assert metrics.anisotropy(torch.tensor([[1.0, 2.0], [2.0, 4.0]])) == float("inf")
    assert metrics.anisotropy(torch.zeros(2, 3)) == float("inf")


def test_misalignment():
    h = torch.tensor([1.0, 2.0, -1.0])
    assert metrics.misalignment(h, -3 * h) == pytest.approx(0)
    assert metrics.misalignment(h, torch.tensor([1.0, 0.0, 1.0])) == pytest.approx(1)
    assert metrics.misalignment(h, torch.zeros(3)) == 1
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert metrics.misalignment(first, second) == pytest.approx(1 - math.sqrt(0.5))


def test_normalised_accuracy():
    assert metrics.normalised_accuracy({"a": 0.9, "b": 0.3}, {"a": 0.6, "b": 0.6}) == {"a": 150.0, "b": 50.0}
    with pytest.raises(PrefdeltaError, match="different tasks"):
        metrics.normalised_accuracy({"a": 1.0}, {"b": 1.0})
    with pytest.raises(PrefdeltaError, match="'b' has accuracy 0"):
        metrics.normalised_accuracy({"b": 1.0}, {"b": 0.0})


def test_joint_hits_pool_items():
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [2.0, 2.0, 1.0]])
    labels = torch.tensor([0, 2, 0, 1])
    assert metrics.joint_hits(logits, labels, ks=(1, 2, 3, 10)) == {1: 0.25, 2: 0.75, 3: 1.0, 10: 1.0}


def test_union_of_labels():
    texts, places = metrics.union_labels({"digits": ("one", "two"), "letters": ("a", "one")})
    assert texts == ("one", "two", "a")
    assert places == {"digits": (0, 1), "letters": (2, 0)}


def test_unseen_accuracy():
    assert metrics.unseen_accuracy({"a": 0.5, "b": 0.7, "c": 0.9}, ["a"]) == pytest.approx(0.8)
    with pytest.raises(PrefdeltaError, match="every task"):
        metrics.unseen_accuracy({"a": 0.5}, ["a"])
