"""What must hold for every merge method, whatever it is: the property list, with each exception named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lora_fixtures import random_update, regauged
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import METHODS, get_method
from prefdelta.merging.methods.regmean import merge_on_activations

SHAPE = (30, 22)
RANKS = (3, 2, 4)
PAIR_ONLY = {"slerp", "nuslerp"}
ALL = [name for name in METHODS if name != "regmean"]  # needs files of activations; it has tests of its own

FULL = {
    name
    for name in ALL
    if name in ("ties", "magnitude-prune", "sce", "truncate-ties")
    or name.split("-")[0] in ("dare", "breadcrumbs", "della")
}
"""Combined in float32, entry by entry: equal up to that, and for a rank below the sum's an approximation."""

RANDOM = {name for name in ALL if "dare" in name or "della" in name}
FLATTENS = {"iso-c", "iso-cts"}  # all singular values become equal, one adapter's too
COUNTED_ONCE = {"projection", "tsv-m"}  # a sum in which what updates share counts once: copies need weight 1, not 1/N
CALIBRATES = {name for name in ALL if name.startswith("pico")}  # copies crowd their own directions
SHARES = {*PAIR_ONLY, "average", "multislerp", "karcher", "model-stock", "pico-average"}
"""Weights are shares of a mean, divided by their signed sum, so a negative one also changes the divisor."""
GAMS = {name for name in ALL if name.startswith("gam")}


def tolerance(name: str) -> dict[str, float]:
    return {"rtol": 1e-4, "atol": 1e-4} if name in FULL or name == "pico-ties" else {"rtol": 1e-7, "atol": 1e-7}


def undamaged(name: str) -> dict[str, Any]:
    """Options at which a method drops nothing."""
    return {option: 1 for option in ("density", "energy") if option in METHODS[name].options.model_fields}


def updates(name: str, shape: tuple[int, int] = SHAPE) -> list[LowRank]:
    ranks = RANKS[:2] if name in PAIR_ONLY else RANKS
    return [random_update(seed, shape, rank) for seed, rank in enumerate(ranks)]


def merged(name: str, deltas: Sequence[LowRank], **arguments: Any) -> torch.Tensor:
    return get_method(name)(deltas, module="some.module", **arguments).dense()


def close(name: str, one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, **tolerance(name))


@pytest.mark.parametrize("name", [name for name in ALL if name not in FLATTENS | PAIR_ONLY])
def test_one_adapter_at_weight_one_comes_back(name: str) -> None:
    update = random_update(1, SHAPE, 3)
    close(name, merged(name, [update], options=undamaged(name)), update.dense())


@pytest.mark.parametrize("name", [name for name in ALL if name not in FLATTENS | CALIBRATES | PAIR_ONLY])
def test_copies_of_one_adapter_give_it_back(name: str) -> None:
    update = random_update(1, SHAPE, 3)
    weights = [1.0] * 4 if name in COUNTED_ONCE else [0.25] * 4
    close(name, merged(name, [update] * 4, weights=weights, options=undamaged(name)), update.dense())


@pytest.mark.parametrize("name", ALL)
def test_how_an_update_is_factored_does_not_matter(name: str) -> None:
    """Another gauge, and α against 1/α between the factors, are the same ΔW."""
    deltas = updates(name)
    other = [regauged(LowRank(delta.B * 4, delta.A / 4), seed) for seed, delta in enumerate(deltas)]
    close(name, merged(name, other), merged(name, deltas))


def test_pieces_of_one_update_in_one_cluster_do_not_depend_on_its_factors() -> None:
    """They are orthogonal, so their signs towards one another would be rounding noise."""
    deltas = [random_update(seed, SHAPE, 4) for seed in range(3)]
    for gauge in range(5):
        other = [regauged(delta, gauge + index) for index, delta in enumerate(deltas)]
        close("lego", merged("lego", other, options={"rank": 2}), merged("lego", deltas, options={"rank": 2}))


@pytest.mark.parametrize("name", [name for name in ALL if name not in RANDOM])
def test_the_order_of_the_adapters_does_not_matter(name: str) -> None:
    deltas = updates(name)
    weights = [1.0, 2.0, 3.0][: len(deltas)]
    if name in GAMS:  # the reference is the first adapter, so it stays; a pair may be swapped
        options = {"reference": "chordal-mean"}
        close(
            name,
            merged(name, deltas[::-1], weights=weights[::-1], options=options),
            merged(name, deltas, weights=weights, options=options),
        )
    else:
        close(name, merged(name, deltas[::-1], weights=weights[::-1]), merged(name, deltas, weights=weights))


@pytest.mark.parametrize("name", [name for name in ALL if name not in FULL | {"pico-ties"}])
def test_the_result_lies_in_the_joint_span(name: str) -> None:
    """Of both sides; KnOTS thins entries out over the input, and RobustMerge over both factors, which leaves a span."""
    deltas = updates(name)
    result = merged(name, deltas)
    assert get_method(name)(deltas, module="some.module").rank <= sum(delta.rank for delta in deltas)
    if name == "robustmerge":
        return
    b = torch.linalg.qr(torch.cat([delta.B for delta in deltas], dim=1)).Q
    torch.testing.assert_close(b @ (b.T @ result), result, rtol=1e-9, atol=1e-9)
    if not name.startswith("knots"):
        a = torch.linalg.qr(torch.cat([delta.A for delta in deltas]).T).Q
        torch.testing.assert_close(result @ a @ a.T, result, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_float32_and_float64_factors_agree(name: str) -> None:
    deltas = updates(name)
    single = [delta.to(torch.float32) for delta in deltas]
    torch.testing.assert_close(merged(name, single), merged(name, deltas), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in ALL if name not in {"average", "gam-norm-matched", *PAIR_ONLY}])
def test_a_zero_adapter_is_neutral(name: str) -> None:
    """The average, and with it its norm, is divided by N; a pair with a zero half is no pair."""
    deltas = updates(name)
    bare = merged(name, deltas)
    for zero in (LowRank.zero(SHAPE), random_update(9, SHAPE, 3, size=0.0)):
        close(name, merged(name, [*deltas, zero]), bare)


@pytest.mark.parametrize("name", [name for name in ALL if name not in GAMS | SHARES])
def test_a_negative_weight_turns_its_update_around(name: str) -> None:
    deltas = updates(name)
    weights = [2.0, 0.5, 1.0][: len(deltas)]
    turned = [delta.scaled(-1.0 if index == 1 else 1.0) for index, delta in enumerate(deltas)]
    flipped = [weight * (-1 if index == 1 else 1) for index, weight in enumerate(weights)]
    close(name, merged(name, deltas, weights=flipped), merged(name, turned, weights=weights))


@pytest.mark.parametrize("name", ALL)
def test_the_same_bytes_every_time_and_with_other_modules_before(name: str) -> None:
    deltas = updates(name)
    first = merged(name, deltas)
    get_method(name)(deltas, module="another.module")
    assert torch.equal(merged(name, deltas), first)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_random_methods_depend_on_seed_and_module(name: str) -> None:
    deltas = updates(name)
    method = get_method(name)
    base = method(deltas, module="a").dense()
    assert not torch.allclose(method(deltas, module="b").dense(), base)
    assert not torch.allclose(method(deltas, module="a", options={"seed": 1}).dense(), base)


@pytest.mark.parametrize("name", ALL)
def test_a_mistyped_option_is_an_error(name: str) -> None:
    with pytest.raises(PrefdeltaError, match="unknown option 'desity'"):
        get_method(name)(updates(name), options={"desity": 0.5})


@pytest.mark.parametrize("name", ALL)
def test_all_zero_updates_merge_to_zero(name: str) -> None:
    zeros = [LowRank.zero(SHAPE), random_update(1, SHAPE, 2, size=0.0)]
    assert merged(name, zeros).abs().max() == 0


@pytest.mark.parametrize("name", ALL)
def test_scaling_all_updates_scales_the_result(name: str) -> None:
    deltas = updates(name)
    close(name, merged(name, [delta.scaled(0.5) for delta in deltas]) * 2, merged(name, deltas))


@pytest.mark.parametrize(
    ("shape", "ranks"), [((1, 9), (1, 2)), ((9, 1), (2, 1)), ((4, 3), (6, 5))], ids=["row", "column", "over-complete"]
)
@pytest.mark.parametrize("name", ALL)
def test_degenerate_shapes(name: str, shape: tuple[int, int], ranks: tuple[int, int]) -> None:
    deltas = [random_update(seed, shape, rank) for seed, rank in enumerate(ranks)]
    assert torch.isfinite(merged(name, deltas)).all()


def test_truncation_keeps_the_directions_that_it_is_asked_for() -> None:
    """A known spectrum: 4, 2, 1, so that shares of the energy are 16/21, 20/21 and 1."""
    generator = torch.Generator().manual_seed(3)
    u = torch.linalg.qr(torch.randn(SHAPE[0], 3, generator=generator, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(SHAPE[1], 3, generator=generator, dtype=torch.float64)).Q
    s = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    delta = LowRank(u * s, v.T)
    for options, kept in (
        ({"energy": 0.5}, 1),
        ({"energy": 0.77}, 2),
        ({"energy": 0.96}, 3),
        ({"energy": 0.96, "directions": 1}, 1),
        ({"directions": 9}, 3),
    ):
        merged = get_method("truncate").run([delta, delta.scaled(2)], options=options)
        torch.testing.assert_close(merged.delta.dense(), 3 * u[:, :kept] * s[:kept] @ v[:, :kept].T)
        assert merged.notes["directions"] == 2 * kept
        assert merged.notes["leading_energy"] == pytest.approx(float((s[:kept] ** 2).sum()) / 21)


def test_signs_elected_among_the_leading_directions_alone() -> None:
    """Entries of the directions that were cut have no vote, and what agrees is summed, not averaged."""
    first = LowRank(torch.diag(torch.tensor([5.0, 1.0])), torch.eye(2))
    second = LowRank(torch.diag(torch.tensor([3.0, -2.0])), torch.eye(2))
    options = {"directions": 1, "density": 1}
    assert get_method("truncate-ties")([first, second], options=options).dense().tolist() == [
        [pytest.approx(8.0), pytest.approx(0.0)],
        [pytest.approx(0.0), pytest.approx(0.0)],
    ]


def test_regmean_keeps_the_ranks_and_gives_one_adapter_back() -> None:
    deltas = [random_update(seed, SHAPE, rank) for seed, rank in enumerate(RANKS)]
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(count, SHAPE[1], generator=generator, dtype=torch.float64) for count in (9, 14, 40)]
    assert merge_on_activations(deltas, inputs, weights=[1.0, 1.0, 1.0]).rank == sum(RANKS)
    one = merge_on_activations(deltas[:1], inputs[:1], weights=[1.0])
    torch.testing.assert_close(one.dense(), deltas[0].dense(), rtol=1e-8, atol=1e-8)


def test_options_are_frozen_and_checked() -> None:
    options = get_method("knots-ties").parse({"density": 0.5})
    with pytest.raises(ValidationError):
        options.density = 0.1  # type: ignore[attr-defined]
    with pytest.raises(PrefdeltaError, match="option density"):
        get_method("ties").parse({"density": 0})
