"""The algebra of low-rank updates against dense linear algebra."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_fixtures import random_orthogonal, random_update, regauged
from prefdelta.linalg.lowrank import LowRank, concat

quick = settings(max_examples=25, deadline=None, derandomize=True)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
seeds = st.integers(0, 10_000)
sizes = st.integers(1, 12)
ranks = st.integers(1, 15)  # may exceed a dimension


@st.composite
def updates(draw: st.DrawFn) -> LowRank:
    return random_update(draw(seeds), (draw(sizes), draw(sizes)), draw(ranks))


@quick
@given(updates(), seeds, ranks)
def test_inner_product_and_norm_are_those_of_the_dense_matrices(update: LowRank, seed: int, rank: int) -> None:
    other = random_update(seed, update.shape, rank)
    assert update.inner(other) == pytest.approx(float((update.dense() * other.dense()).sum()), abs=1e-9)
    assert update.norm() == pytest.approx(float(update.dense().norm()), rel=1e-10)


@quick
@given(updates())
def test_svd_is_the_dense_one(update: LowRank) -> None:
    u, s, v = update.svd()
    torch.testing.assert_close(u @ torch.diag(s) @ v.T, update.dense(), **CLOSE)
    torch.testing.assert_close(u.T @ u, torch.eye(len(s), dtype=torch.float64), **CLOSE)
    torch.testing.assert_close(v.T @ v, torch.eye(len(s), dtype=torch.float64), **CLOSE)
    torch.testing.assert_close(s, torch.linalg.svdvals(update.dense())[: len(s)], **CLOSE)


@quick
@given(seeds, st.integers(1, 6), seeds)
def test_svd_depends_on_the_update_only(seed: int, rank: int, gauge: int) -> None:
    update = random_update(seed, (11, 9), rank)
    for mine, theirs in zip(update.svd(), regauged(update, gauge).svd(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@quick
@given(seeds, st.integers(1, 4))
def test_svd_drops_the_directions_that_are_not_there(seed: int, rank: int) -> None:
    update = random_update(seed, (11, 9), rank)
    doubled = concat([update, update], [0.5, 0.5])
    assert doubled.rank == 2 * rank
    assert len(doubled.svd().S) == rank
    assert len(concat([update, update], [1.0, -1.0]).scaled(0.0).svd().S) == 0


@quick
@given(updates(), st.integers(1, 12))
def test_truncation_is_optimal_and_says_what_it_keeps(update: LowRank, rank: int) -> None:
    best, kept = update.truncated(rank)
    s = torch.linalg.svdvals(update.dense())
    lost = float((s[rank:] ** 2).sum())
    assert float(((best.dense() - update.dense()) ** 2).sum()) == pytest.approx(lost, abs=1e-9)
    assert kept == pytest.approx(1 - lost / float((s**2).sum()), abs=1e-10)
    assert best.rank <= rank


@quick
@given(updates(), seeds, ranks, st.floats(-2, 2), st.floats(-2, 2))
def test_concat_is_the_exact_weighted_sum(update: LowRank, seed: int, rank: int, first: float, second: float) -> None:
    other = random_update(seed, update.shape, rank)
    total = concat([update, other], [first, second])
    torch.testing.assert_close(total.dense(), first * update.dense() + second * other.dense(), **CLOSE)
    assert total.rank == update.rank + other.rank


@quick
@given(updates(), st.integers(-20, 20))
def test_balancing_changes_no_bit_of_the_update(update: LowRank, exponent: int) -> None:
    uneven = LowRank(update.B * 2.0**exponent, update.A * 2.0**-exponent)
    even = uneven.balanced()
    assert torch.equal(even.dense(), uneven.dense())
    ratio = even.B.norm(dim=0) / even.A.norm(dim=1)
    assert bool(((ratio > 0.46) & (ratio < 2.2)).all())


def test_balancing_leaves_empty_columns_alone() -> None:
    update = LowRank(torch.zeros(4, 2), torch.ones(2, 3))
    assert torch.equal(update.balanced().A, update.A)


@quick
@given(updates(), st.integers(0, 5), st.floats(-3, 3))
def test_padding_transposing_and_scaling(update: LowRank, extra: int, factor: float) -> None:
    torch.testing.assert_close(update.padded(update.rank + extra).dense(), update.dense(), **CLOSE)
    torch.testing.assert_close(update.T.dense(), update.dense().T, **CLOSE)
    torch.testing.assert_close(update.scaled(factor).dense(), factor * update.dense(), **CLOSE)


def test_the_zero_update_has_rank_nought_and_survives_everything() -> None:
    zero = LowRank.zero((5, 4))
    assert zero.norm() == 0 == zero.inner(random_update(0, (5, 4), 2))
    assert zero.svd().S.numel() == 0
    best, kept = zero.truncated(3)
    assert best.norm() == 0
    assert kept == 1
    assert zero.balanced().rank == 0
    assert torch.equal(zero.padded(2).dense(), torch.zeros(5, 4, dtype=torch.float64))


def test_a_direction_that_a_float32_gram_matrix_would_lose_is_kept() -> None:
    """Two nearly parallel columns: the smaller singular value is 1e-5 of the larger, its square below float32."""
    basis = random_orthogonal(3, 40)[:, :2]
    b = torch.stack([basis[:, 0], basis[:, 0] + 1e-5 * basis[:, 1]], dim=1).to(torch.float32)
    a = random_orthogonal(4, 30)[:2].to(torch.float32)
    s = LowRank(b, a).svd().S
    exact = torch.linalg.svdvals(b.double() @ a.double())[:2]
    torch.testing.assert_close(s, exact, rtol=1e-9, atol=0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no factors"):
        LowRank(torch.zeros(3, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="shapes differ"):
        concat([LowRank.zero((3, 2)), LowRank.zero((2, 3))], [1.0, 1.0])
    with pytest.raises(ValueError, match="1 deltas and 2 weights"):
        concat([LowRank.zero((3, 2))], [1.0, 1.0])
    with pytest.raises(ValueError, match="cannot pad"):
        random_update(0, (3, 2), 2).padded(1)
