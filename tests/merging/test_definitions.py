"""What defines a method beside its dense code: PEFT's element-wise functions, chances, stationarity."""

from __future__ import annotations

import math

import pytest
import torch
from peft.utils import merge_utils
from torch import Tensor

from lora_fixtures import random_orthogonal, random_update
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.stack import Stack
from prefdelta.merging import get_method
from prefdelta.merging.methods.catalogue import COMBINED
from prefdelta.merging.methods.combined import dense_blocks
from prefdelta.merging.methods.rules import RULES
from prefdelta.merging.registry import Options

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SHAPE = (26, 19)


def stack(count: int = 3, shape: tuple[int, int] = SHAPE) -> list[LowRank]:
    return [random_update(seed, shape, 2 + seed % 3, size=1 + 0.3 * seed) for seed in range(count)]


def dense(deltas: list[LowRank]) -> list[Tensor]:
    return [delta.dense() for delta in deltas]


def whole(name: str, deltas: list[LowRank], weights: list[float], **options: object) -> Tensor:
    """A rule's full-rank result."""
    parsed: Options = COMBINED[name].parse(options)
    return dense_blocks(RULES[name], deltas, weights, parsed, "m").dense().double()


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_element_wise_rules_are_pefts(density: float) -> None:
    deltas = stack(4)
    weights = [1.0, 1.0, 1.0, 1.0]
    theirs = [delta.float() for delta in dense(deltas)]
    pairs = {
        "ties": merge_utils.ties(theirs, torch.tensor(weights), density),
        "magnitude-prune": merge_utils.magnitude_prune(theirs, torch.tensor([2.0, -1.0, 0.5, 1.0]), density),
    }
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(whole("ties", deltas, weights, density=density), pairs["ties"].double(), **close)
    pruned = whole("magnitude-prune", deltas, [2.0, -1.0, 0.5, 1.0], density=density)
    torch.testing.assert_close(pruned, pairs["magnitude-prune"].double(), **close)


def test_ties_weighs_before_it_votes_and_divides_by_the_agreeing_weight() -> None:
    values = [[[4.0, -1.0, 1.0]], [[-1.0, -3.0, -1.0]]]
    deltas = [LowRank(torch.ones(1, 1).double(), torch.tensor(value).double()) for value in values]
    result = whole("ties", deltas, [1.0, 3.0], density=1.0)
    assert result.tolist() == [[4.0, (-1.0 - 9.0) / 4.0, -1.0]]
    assert whole("ties", deltas, [1.0, 1.0], density=1.0).tolist() == [[4.0, -2.0, 0.0]]  # the last vote is a draw


def test_dare_keeps_a_share_rescales_it_and_is_unbiased() -> None:
    update = [random_update(0, (60, 50), 4)]
    original = update[0].dense()
    masks = torch.stack([whole("dare", update, [1.0], density=0.25, seed=seed) for seed in range(200)])
    kept = masks != 0
    torch.testing.assert_close(
        masks[kept], (original.float().double() / 0.25).expand_as(masks)[kept], rtol=1e-5, atol=1e-5
    )
    assert float(kept.double().mean()) == pytest.approx(0.25, abs=0.002)
    error = (masks.mean(dim=0) - original).norm() / original.norm()
    assert float(error) == pytest.approx(math.sqrt(3 / 200), rel=0.1)  # Var(m/p) = (1 - p)/p = 3, over 200 draws


def test_dare_gives_every_adapter_a_mask_of_its_own() -> None:
    update = random_update(0, SHAPE, 3)
    both = whole("dare", [update, update], [1.0, 0.001], density=0.5)
    sizes = {round(float(value), 2) for value in (both / update.dense()).flatten()}
    assert sizes == {0.0, 2.0}  # 2.002 and 0.002 rounded: all four combinations of two masks occur
    assert len({round(float(value), 4) for value in (both / update.dense()).flatten()}) == 4


def test_della_keeps_large_entries_more_often_and_is_unbiased() -> None:
    update = [random_update(0, (40, 30), 4)]
    original = update[0].dense()
    draws = torch.stack(
        [whole("della-linear", update, [1.0], density=0.5, spread=0.4, seed=seed) for seed in range(400)]
    )
    chance = (draws != 0).double().mean(dim=0)
    rank = original.abs().argsort(dim=1).argsort(dim=1).double()
    torch.testing.assert_close(chance, 0.1 + 0.8 * rank / 29, rtol=0, atol=0.13)
    assert float((draws.mean(dim=0) - original).norm() / original.norm()) < 0.1


def test_breadcrumbs_keeps_a_band_of_magnitudes() -> None:
    update = random_update(0, (20, 10), 3)
    result = whole("breadcrumbs", [update], [1.0], density=0.5, outliers=0.1)
    order = update.dense().abs().flatten().argsort(descending=True)
    kept = torch.zeros(200, dtype=torch.bool)
    kept[order[20:120]] = True
    assert torch.equal(result.flatten() != 0, kept)
    nothing_cut = whole("breadcrumbs", [update], [1.0], density=0.5, outliers=0.0)
    assert torch.equal(nothing_cut.flatten() != 0, torch.zeros(200).index_fill(0, order[:100], 1).bool())


def test_compress_then_merge_says_what_its_subspaces_hold() -> None:
    update = random_update(0, SHAPE, 4)
    merged = get_method("ctm-dare").run([update], options={"density": 1, "rank": 2})
    best, kept = update.truncated(2)
    torch.testing.assert_close(merged.delta.dense(), best.dense(), **CLOSE)
    assert merged.notes["inside_subspaces"] == pytest.approx(kept)


def test_model_stock_of_opposite_updates_is_zero() -> None:
    base = random_update(0, SHAPE, 3)
    opposite = get_method("model-stock").run([base, base.scaled(-1.0)], weights=[2.0, 1.0])
    assert opposite.notes["interpolation"] == 0
    assert opposite.notes["mean_cosine"] == pytest.approx(-1)
    assert opposite.delta.norm() == 0


def test_slerp_takes_two() -> None:
    with pytest.raises(PrefdeltaError, match="merge method slerp takes exactly 2 adapters, not 3"):
        get_method("slerp")(stack())


def test_lego_keeps_one_piece_for_each_cluster_whatever_its_sign() -> None:
    """Three adapters are noisy copies of four distinct pieces; the copies' signs and order differ."""
    generator = torch.Generator().manual_seed(0)
    u, v = random_orthogonal(1, 30)[:, :4], random_orthogonal(2, 25)[:, :4]
    sizes = torch.tensor([4.0, 3.0, 2.0, 1.0]).double()
    deltas = []
    for _ in range(3):
        left = u + 0.01 * torch.randn(u.shape, generator=generator, dtype=torch.float64)
        signs = torch.where(torch.rand(4, generator=generator) < 0.5, -1.0, 1.0).double()
        order = torch.randperm(4, generator=generator)
        deltas.append(LowRank((left * sizes * signs)[:, order], (v * signs).T[order]))
    merged = get_method("lego").run(deltas)
    assert merged.delta.rank == 4
    torch.testing.assert_close(merged.delta.dense(), u * sizes @ v.T, rtol=0, atol=0.1)
    assert merged.notes["spread"] < 0.01


def test_karcher_is_where_the_pulls_along_great_circles_cancel() -> None:
    base = random_update(0, SHAPE, 3)
    deltas = [LowRank(torch.cat([base.B, noise.B], 1), torch.cat([base.A, noise.A])) for noise in stack()]
    weights = [1.0, 2.0, 3.0]
    result = get_method("karcher")(deltas, weights=weights).dense()
    point = result / result.norm()
    pull = torch.zeros_like(point)
    for weight, matrix in zip(weights, dense(deltas), strict=True):
        unit = matrix / matrix.norm()
        cosine = (unit * point).sum()
        pull += weight * torch.arccos(cosine) / torch.sqrt(1 - cosine**2) * (unit - cosine * point)
    assert float(pull.norm()) < 1e-8
    norms = [float(matrix.norm()) for matrix in dense(deltas)]
    assert float(result.norm()) == pytest.approx(sum(w * n for w, n in zip(weights, norms, strict=True)) / 6)
    pair = get_method("karcher")(deltas[:2]).dense()
    circle = get_method("slerp")([delta.scaled(1 / delta.norm()) for delta in deltas[:2]]).dense()
    torch.testing.assert_close(pair / pair.norm(), circle, **CLOSE)


def test_projection_keeps_every_updates_own_component() -> None:
    base = random_update(0, SHAPE, 3)
    deltas = [LowRank(torch.cat([base.B, noise.B], 1), torch.cat([base.A, noise.A])) for noise in stack()]
    merged = get_method("projection").run(deltas, weights=[1.0, -1.0, 2.0])
    for weight, delta in zip([1.0, -1.0, 2.0], deltas, strict=True):
        assert merged.delta.inner(delta) == pytest.approx(weight * delta.norm() ** 2)
    assert merged.notes["kept_projection"] == pytest.approx(1)
    u = random_orthogonal(3, 20)
    apart = [LowRank(u[:, i : i + 2], u[i : i + 2] * (i + 1)) for i in (0, 2, 4)]
    torch.testing.assert_close(get_method("projection")(apart).dense(), sum(dense(apart)), **CLOSE)
    longer = [base, base.scaled(3.0)]  # contradictory wishes: the compromise is the mean length
    torch.testing.assert_close(get_method("projection")(longer).dense(), base.dense() * 2, **CLOSE)


def test_linear_has_the_sums_own_rank_and_svd_is_eckart_young() -> None:
    deltas = stack()
    repeated = [*deltas, deltas[0]]
    total = sum(dense(repeated))
    exact = get_method("linear")(repeated)
    torch.testing.assert_close(exact.dense(), total, **CLOSE)
    assert exact.rank == sum(delta.rank for delta in deltas)
    merged = get_method("svd").run(repeated, options={"rank": 2})
    s = torch.linalg.svdvals(total)
    assert float((merged.delta.dense() - total).norm()) == pytest.approx(float(s[2:].norm()))
    assert merged.notes["kept_energy"] == pytest.approx(float((s[:2] ** 2).sum() / (s**2).sum()))


def test_gam_with_the_chordal_mean_needs_no_reference() -> None:
    deltas = [random_update(seed, SHAPE, 3) for seed in range(3)]
    options = {"reference": "chordal-mean"}
    merged = get_method("gam")(deltas, options=options).dense()
    torch.testing.assert_close(get_method("gam")(deltas[::-1], options=options).dense(), merged, **CLOSE)
    p, q = random_orthogonal(1, 5), random_orthogonal(2, 5)
    basis_u, basis_v = random_orthogonal(3, SHAPE[0])[:, :5], random_orthogonal(4, SHAPE[1])[:, :5]
    shared = [LowRank(basis_u @ random_orthogonal(seed, 5) @ p, q @ basis_v.T) for seed in range(3)]
    same = get_method("gam")(shared, options=options).dense()
    torch.testing.assert_close(same, sum(dense(shared)) / 3, **CLOSE)


def test_the_gram_matrix_is_that_of_the_dense_updates() -> None:
    deltas = [*stack(), LowRank.zero(SHAPE)]
    flat = torch.stack(dense(deltas)).flatten(1)
    torch.testing.assert_close(Stack.of(deltas).gram(), flat @ flat.T, **CLOSE)
