"""The plain average of updates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_fixtures import random_update, regauged
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging.methods.average import average

quick = settings(max_examples=20, deadline=None, derandomize=True)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
seeds = st.integers(0, 10_000)


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[LowRank], list[float]]:
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    count = draw(st.integers(1, 5))
    base = draw(seeds)
    deltas = [random_update(base + index, shape, draw(st.integers(1, 6))) for index in range(count)]
    return deltas, draw(st.lists(st.floats(0.1, 3), min_size=count, max_size=count))


@quick
@given(stacks())
def test_it_is_the_dense_weighted_mean_at_the_sum_of_the_ranks(stack: tuple[list[LowRank], list[float]]) -> None:
    deltas, weights = stack
    merged = average(deltas, weights=weights)
    dense = sum(w * delta.dense() for w, delta in zip(weights, deltas, strict=True)) / sum(weights)
    torch.testing.assert_close(merged.dense(), dense, **CLOSE)
    assert merged.rank == sum(delta.rank for delta in deltas)


@quick
@given(stacks(), seeds)
def test_order_and_factorisation_do_not_matter(stack: tuple[list[LowRank], list[float]], gauge: int) -> None:
    deltas, weights = stack
    merged = average(deltas, weights=weights).dense()
    turned = average([regauged(delta, gauge) for delta in deltas[::-1]], weights=weights[::-1])
    torch.testing.assert_close(turned.dense(), merged, **CLOSE)


def test_copies_of_one_adapter_give_it_back() -> None:
    update = random_update(1, (9, 7), 3)
    for weights in (None, [0.125] * 8, [3.0] * 8):
        torch.testing.assert_close(average([update] * 8, weights=weights).dense(), update.dense(), **CLOSE)


def test_a_zero_update_counts() -> None:
    update = random_update(1, (9, 7), 3)
    torch.testing.assert_close(average([update, LowRank.zero((9, 7))]).dense(), update.dense() / 2, **CLOSE)


def test_float32_and_float64_factors_agree() -> None:
    deltas = [random_update(seed, (30, 20), 4) for seed in range(3)]
    rounded = [delta.to(torch.float32) for delta in deltas]
    torch.testing.assert_close(average(rounded).dense(), average(deltas).dense(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_weights_without_a_positive_sum_are_refused(weights: list[float]) -> None:
    with pytest.raises(PrefdeltaError, match="must be finite"):
        average([random_update(0, (3, 3), 1)] * 2, weights=weights)


def test_mismatched_arguments_are_refused() -> None:
    update = random_update(0, (3, 4), 1)
    with pytest.raises(PrefdeltaError, match="nothing to merge"):
        average([])
    with pytest.raises(PrefdeltaError, match="2 weights were given for 1 adapters"):
        average([update], weights=[1.0, 1.0])
    with pytest.raises(PrefdeltaError, match="cannot be merged"):
        average([update, update.T])
    with pytest.raises(PrefdeltaError, match="unknown option 'density'; it has no options"):
        average([update], options={"density": 0.5})
