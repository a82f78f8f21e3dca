"""Geometric Alignment Merging: the identities of its definition, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dense_oracles import oracles
from lora_fixtures import random_orthogonal, random_update, regauged
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging.methods.average import average
from prefdelta.merging.methods.gam import gam, gam_norm_matched, gam_orthonormal
from prefdelta.merging.registry import Method

quick = settings(max_examples=15, deadline=None, derandomize=True)

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
VARIANTS = [gam, gam_orthonormal, gam_norm_matched]
seeds = st.integers(0, 10_000)
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


def well_posed(deltas: list[LowRank]) -> bool:
    """Random bases of small dimension can be orthogonal by accident; their alignment is not determined then."""
    return gam.run(deltas).notes["smallest_cosine"] > 1e-2


@st.composite
def stacks(draw: st.DrawFn, least: int = 1, most: int = 4, equal_ranks: bool = True) -> list[LowRank]:
    shape = draw(st.tuples(st.integers(6, 18), st.integers(6, 18)))
    count = draw(st.integers(least, most))
    base = draw(seeds)
    rank = draw(st.integers(1, 5))
    own = [rank if equal_ranks else draw(st.integers(1, 5)) for _ in range(count)]
    deltas = [random_update(base + index, shape, own[index], size=1 + index) for index in range(count)]
    assume(well_posed(deltas))
    return deltas


@each_variant
@quick
@given(deltas=stacks(equal_ranks=False), reference=st.integers(0, 3))
def test_it_is_the_papers_equations(variant: Method, deltas: list[LowRank], reference: int) -> None:
    options = {"reference": reference % len(deltas), "tolerance": 1e-7}
    dense = oracles()[variant.name]([delta.dense() for delta in deltas], [1.0] * len(deltas), **options)
    torch.testing.assert_close(variant(deltas, options=options).dense(), dense, **CLOSE)


@each_variant
@quick
@given(deltas=stacks(most=1), copies=st.integers(1, 5))
def test_copies_of_one_adapter_give_it_back(variant: Method, deltas: list[LowRank], copies: int) -> None:
    torch.testing.assert_close(variant(deltas * copies).dense(), deltas[0].dense(), **CLOSE)


@each_variant
@quick
@given(deltas=stacks(), gauge=seeds)
def test_factorisation_does_not_matter(variant: Method, deltas: list[LowRank], gauge: int) -> None:
    turned = variant([regauged(delta, gauge + index) for index, delta in enumerate(deltas)])
    torch.testing.assert_close(turned.dense(), variant(deltas).dense(), **CLOSE)


@each_variant
@quick
@given(seed=seeds, rank=st.integers(1, 4), angle=seeds)
def test_degenerate_singular_values_do_not_matter(variant: Method, seed: int, rank: int, angle: int) -> None:
    """Equal singular values leave the SVD free to rotate its bases; the merge must not see which it took."""
    other = random_update(seed, (12, 10), rank)
    u, v = random_orthogonal(seed + 1, 12)[:, :rank], random_orthogonal(seed + 2, 10)[:, :rank]
    turn = random_orthogonal(angle, rank)
    first, second = LowRank(u, v.T), LowRank(u @ turn, (v @ turn).T)
    assume(well_posed([first, other]))
    torch.testing.assert_close(variant([first, other]).dense(), variant([second, other]).dense(), **CLOSE)


@each_variant
@quick
@given(seed=seeds, rank=st.integers(1, 4), count=st.integers(1, 4))
def test_in_shared_subspaces_it_is_the_average(variant: Method, seed: int, rank: int, count: int) -> None:
    u, v = random_orthogonal(seed, 12)[:, :rank], random_orthogonal(seed + 1, 10)[:, :rank]
    cores = [random_update(seed + 2 + index, (rank, rank), rank).dense() for index in range(count)]
    assume(all(float(torch.linalg.cond(core)) < 1e4 for core in cores))
    deltas = [LowRank(u @ core, v.T) for core in cores]
    torch.testing.assert_close(variant(deltas).dense(), average(deltas).dense(), **CLOSE)


@each_variant
@quick
@given(deltas=stacks(least=2, most=2, equal_ranks=False))
def test_of_two_either_may_be_the_reference(variant: Method, deltas: list[LowRank]) -> None:
    first, second = (variant(deltas, options={"reference": index}).dense() for index in (0, 1))
    torch.testing.assert_close(first, second, **CLOSE)


@each_variant
@quick
@given(deltas=stacks(least=3, equal_ranks=False))
def test_the_order_of_the_others_does_not_matter(variant: Method, deltas: list[LowRank]) -> None:
    turned = variant([deltas[0], *deltas[:0:-1]])
    torch.testing.assert_close(turned.dense(), variant(deltas).dense(), **CLOSE)


@each_variant
@quick
@given(deltas=stacks(equal_ranks=False))
def test_the_result_lies_in_the_joint_span_at_the_largest_rank(variant: Method, deltas: list[LowRank]) -> None:
    merged = variant(deltas)
    assert merged.rank <= max(delta.rank for delta in deltas)
    for basis, result in (
        (torch.cat([delta.B for delta in deltas], dim=1), merged.dense()),
        (torch.cat([delta.A.T for delta in deltas], dim=1), merged.dense().T),
    ):
        u, s, _ = torch.linalg.svd(basis, full_matrices=False)
        u = u[:, s > 1e-9 * s[0]]
        torch.testing.assert_close(u @ (u.T @ result), result, **CLOSE)


@each_variant
@quick
@given(deltas=stacks(equal_ranks=False), factor=st.floats(1e-4, 1e4))
def test_scaling_every_adapter_scales_the_result(variant: Method, deltas: list[LowRank], factor: float) -> None:
    scaled = variant([delta.scaled(factor) for delta in deltas])
    torch.testing.assert_close(scaled.dense() / factor, variant(deltas).dense(), **CLOSE)


@quick
@given(stacks(least=2), st.floats(0.1, 5), st.floats(0.1, 5))
def test_in_fixed_subspaces_it_is_linear_in_the_cores(deltas: list[LowRank], first: float, second: float) -> None:
    """Changing one core within its subspaces adds that core's own contribution."""

    def with_core(factor: float) -> torch.Tensor:
        return gam([deltas[0], deltas[1].scaled(factor), *deltas[2:]]).dense()

    slope = (with_core(first) - with_core(second)) / (first - second) if first != second else None
    if slope is not None and abs(first - second) > 1e-2:
        torch.testing.assert_close(with_core(1.0) + slope, with_core(2.0), **CLOSE)


@each_variant
@quick
@given(deltas=stacks(equal_ranks=False), seed=seeds)
def test_rotating_every_adapter_rotates_the_result(variant: Method, deltas: list[LowRank], seed: int) -> None:
    left, right = random_orthogonal(seed, deltas[0].shape[0]), random_orthogonal(seed + 1, deltas[0].shape[1])
    turned = variant([LowRank(left @ delta.B, delta.A @ right.T) for delta in deltas])
    torch.testing.assert_close(turned.dense(), left @ variant(deltas).dense() @ right.T, **CLOSE)


@each_variant
@quick
@given(deltas=stacks(equal_ranks=False))
def test_transposing_every_adapter_transposes_the_result(variant: Method, deltas: list[LowRank]) -> None:
    torch.testing.assert_close(variant([delta.T for delta in deltas]).dense(), variant(deltas).dense().T, **CLOSE)


@quick
@given(stacks(equal_ranks=False))
def test_the_norm_is_at_most_the_mean_of_the_norms(deltas: list[LowRank]) -> None:
    assert gam(deltas).norm() <= sum(delta.norm() for delta in deltas) / len(deltas) * (1 + 1e-12)


@quick
@given(stacks(equal_ranks=False), st.floats(0.1, 3))
def test_norm_matched_has_the_averages_norm_and_gams_direction(deltas: list[LowRank], weight: float) -> None:
    weights = [weight] + [1.0] * (len(deltas) - 1)
    matched, plain = gam_norm_matched(deltas, weights=weights), gam(deltas, weights=weights)
    assert matched.norm() == pytest.approx(average(deltas, weights=weights).norm(), rel=1e-9)
    assert matched.inner(plain) == pytest.approx(matched.norm() * plain.norm(), rel=1e-9)


@quick
@given(stacks(least=2))
def test_orthonormal_bases_never_shrink_below_the_mean_core(deltas: list[LowRank]) -> None:
    """With orthonormal bases the norm is that of the averaged core, which faithful GAM can only reduce."""
    assert gam_orthonormal(deltas).norm() >= gam(deltas).norm() * (1 - 1e-12)


@quick
@given(stacks(least=2, equal_ranks=False), seeds)
def test_a_zero_adapter_is_left_out_however_it_is_factored(deltas: list[LowRank], seed: int) -> None:
    shape = deltas[0].shape
    untrained = LowRank(torch.zeros(shape[0], 3, dtype=torch.float64), random_update(seed, (3, shape[1]), 3).dense())
    for zero in (untrained, LowRank.zero(shape)):
        outcome = gam.run([*deltas, zero])
        torch.testing.assert_close(outcome.delta.dense(), gam(deltas).dense(), **CLOSE)
        assert outcome.notes["left_out"] == 1


@quick
@given(seeds, st.integers(1, 3), st.integers(4, 5))
def test_unequal_ranks_lose_nothing(seed: int, low: int, high: int) -> None:
    """With weight on the narrow adapter alone among shared subspaces, its whole update comes back."""
    wide = random_update(seed, (14, 12), high)
    u, _, v = wide.svd()
    narrow = LowRank(u[:, :low] @ random_update(seed + 1, (low, low), low).dense(), v[:, :low].T)
    weights = [1e-9, 1.0]
    merged = gam([wide, narrow], weights=weights)
    torch.testing.assert_close(merged.dense(), narrow.dense(), rtol=1e-6, atol=1e-6)


def test_the_widest_adapter_stands_in_for_a_narrow_reference() -> None:
    narrow, wide = random_update(0, (12, 10), 2), random_update(1, (12, 10), 4)
    assert gam.run([narrow, wide], options={"reference": 0}).notes["reference"] == 1
    assert gam.run([wide, narrow], options={"reference": 0}).notes["reference"] == 0
    assert gam.run([LowRank.zero((12, 10)), narrow]).notes["reference"] == 1


def test_nothing_but_zero_adapters_merge_to_zero() -> None:
    for variant in VARIANTS:
        assert variant([LowRank.zero((5, 4))] * 2).norm() == 0


def test_a_rank_deficient_adapter_counts_with_its_true_rank() -> None:
    update, other = random_update(0, (12, 10), 2), random_update(1, (12, 10), 2)
    padded = update.padded(5)
    torch.testing.assert_close(gam([padded, other]).dense(), gam([update, other]).dense(), **CLOSE)


@quick
@given(stacks(least=2))
def test_float32_factors_agree_with_float64(deltas: list[LowRank]) -> None:
    merged, rounded = gam(deltas), gam([delta.to(torch.float32) for delta in deltas])
    error = float((merged.dense() - rounded.dense()).norm()) / merged.norm()
    assert error < 1e-3  # rounding is amplified by up to one over the smallest principal cosine


def test_orthogonal_subspaces_are_noticed() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    first, second = LowRank(eye[:, :2], eye[:2]), LowRank(eye[:, 2:4], eye[2:4])
    assert gam.run([first, second]).notes["smallest_cosine"] < 1e-12


def test_bad_options_are_refused() -> None:
    update = random_update(0, (5, 4), 2)
    with pytest.raises(PrefdeltaError, match="reference is 2, but there are 2 adapters"):
        gam([update, update], options={"reference": 2})
    with pytest.raises(PrefdeltaError, match=r"option reference: .* greater than or equal to 0"):
        gam([update], options={"reference": -1})
    with pytest.raises(PrefdeltaError, match="unknown option 'referenc'; did you mean 'reference'"):
        gam([update], options={"referenc": 0})
    with pytest.raises(PrefdeltaError, match="cannot be negative"):
        gam([update, update], weights=[2.0, -1.0])
