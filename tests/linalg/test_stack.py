"""A stack of updates answers from its cross products what the dense matrices say."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from lora_fixtures import random_update
from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.linalg.stack import Stack
from prefdelta.merging import get_method

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SHAPE = (150, 140)


def updates(ranks: Sequence[int]) -> list[LowRank]:
    return [random_update(seed, SHAPE, rank) for seed, rank in enumerate(ranks)]


def dense_gram(deltas: Sequence[LowRank]) -> torch.Tensor:
    flat = torch.stack([delta.dense().flatten() for delta in deltas])
    return flat @ flat.T


# Few columns are multiplied at once, many block by block; 70 and 65 go over the size of a block.
@pytest.mark.parametrize("ranks", [(3,), (2, 3, 1), (40, 35), (70, 65, 0), (0, 0)])
def test_products_and_norms_are_the_dense_ones(ranks: tuple[int, ...]) -> None:
    deltas = updates(ranks)
    stack = Stack.of(deltas)
    torch.testing.assert_close(stack.outputs.gram, stack.B.T @ stack.B, **CLOSE)
    torch.testing.assert_close(stack.inputs.gram, stack.A @ stack.A.T, **CLOSE)
    torch.testing.assert_close(stack.gram(), dense_gram(deltas), rtol=1e-10, atol=1e-7)
    other = random_update(99, SHAPE, 5)
    expected = torch.stack([(other.dense() * delta.dense()).sum() for delta in deltas])
    torch.testing.assert_close(stack.inner(other), expected, rtol=1e-10, atol=1e-7)


@pytest.mark.parametrize("ranks", [(2, 3, 1), (40, 35), (70, 0, 65)])
def test_an_update_within_the_stack_is_what_its_factors_say(ranks: tuple[int, ...]) -> None:
    stack = Stack.of(updates(ranks))
    generator = torch.Generator().manual_seed(7)
    x, y = (torch.randn(stack.rank, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    found = stack.factored(x, y)
    torch.testing.assert_close(found.dense(), stack.B @ x @ y.T @ stack.A, **CLOSE)
    assert found.norm() == pytest.approx(float(found.dense().norm()), rel=1e-10)
    plain = LowRank(found.B, found.A)
    torch.testing.assert_close(stack.inner(found), stack.inner(plain), rtol=1e-10, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_combination_is_the_same_whether_or_not_all_products_are_known(dtype: torch.dtype) -> None:
    deltas = [delta.to(dtype) for delta in updates((4, 3, 4))]
    sparse, full = Stack.of(deltas), Stack.of(deltas)
    full.multiply_pairs()
    generator = torch.Generator().manual_seed(7)
    x, y = (torch.randn(full.rank, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    mine, theirs = sparse.combined(x, y), full.combined(x, y)
    assert torch.equal(mine.dense(), theirs.dense())
    close = {"rtol": 1e-10, "atol": 1e-7} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-2}
    torch.testing.assert_close(sparse.inner(mine), full.inner(theirs), **close)
    assert mine.norm() == pytest.approx(theirs.norm(), rel=1e-10 if dtype == torch.float64 else 1e-5)
    assert sparse.norms() == pytest.approx(full.norms(), rel=1e-12)
    assert full.gram_is_known
    assert not sparse.gram_is_known
    for factor in (1.0, 0.3):
        one, other = (update.scaled(factor).balanced().to(torch.bfloat16) for update in (mine, theirs))
        assert torch.equal(one.B, other.B)
        assert torch.equal(one.A, other.A)


def test_weighted_and_truncated_sums() -> None:
    deltas, weights = updates((3, 4, 2)), (0.5, -1.0, 2.0)
    stack = Stack.of(deltas)
    expected = sum(weight * delta.dense() for weight, delta in zip(weights, deltas, strict=True))
    torch.testing.assert_close(stack.weighted(weights).dense(), expected, **CLOSE)
    mine, kept = stack.truncated(weights, 4)
    theirs, also_kept = concat(deltas, weights).truncated(4)
    torch.testing.assert_close(mine.dense(), theirs.dense(), **CLOSE)
    assert kept == pytest.approx(also_kept, rel=1e-10)


def test_the_norm_of_a_sum_that_cancels_is_not_lost_in_rounding() -> None:
    delta, small = updates((4, 3))
    stack = Stack.of([delta, LowRank(torch.cat([delta.B, 1e-9 * small.B], dim=1), torch.cat([delta.A, small.A]))])
    difference = stack.weighted((1.0, -1.0))
    assert difference.norm() == pytest.approx(1e-9 * small.norm(), rel=1e-5)


def test_what_adds_nothing_is_left_out_and_close_columns_get_new_factors() -> None:
    sound, other = updates((3, 3))
    padded = other.padded(8)
    close = LowRank(torch.cat([sound.B, sound.B[:, :1] + 1e-8 * other.B[:, 1:2]], 1), torch.cat([sound.A, other.A[:1]]))
    stack = Stack.of([sound, padded, close, LowRank.zero(SHAPE)])
    fit = stack.well_conditioned()
    assert [delta.rank for delta in fit] == [3, 3, 4, 0]
    assert all(found is not None for found in fit.triangles[:3])
    for mine, theirs in zip(fit, stack, strict=True):
        torch.testing.assert_close(mine.dense(), theirs.dense(), **CLOSE)
    assert Stack.of([sound, other]).well_conditioned()[0] is not None


@pytest.mark.parametrize("name", ["gam", "gam-orthonormal", "svd", "tsv-m", "core-ties", "knots-ties"])
@pytest.mark.parametrize("nearness", [1.0, 1e-2, 1e-6])
def test_methods_agree_however_an_update_is_factored(name: str, nearness: float) -> None:
    """A gauge with nearly equal columns takes the careful route, an orthonormal one the quick route."""
    deltas = updates((4, 4, 4))
    mixing = torch.eye(4, dtype=torch.float64)
    mixing[0, 1:] = 1.0
    mixing[1:, 1:] *= nearness
    regauged = [LowRank(delta.B @ mixing, torch.linalg.solve(mixing, delta.A)) for delta in deltas]
    torch.testing.assert_close(
        get_method(name)(regauged).dense(), get_method(name)(deltas).dense(), rtol=1e-7, atol=1e-8 / nearness**0.5
    )
