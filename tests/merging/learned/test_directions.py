"""What coefficients make of factored directions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_fixtures import random_update, regauged
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank, concat
from prefdelta.merging import get_method
from prefdelta.merging.learned.coefficients import Layout
from prefdelta.merging.learned.directions import Directions, aligned_cores, rank_columns, shared_basis, whole_updates
from prefdelta.merging.learned.methods import LEARNED, get_learned
from prefdelta.merging.methods.options import GamOptions
from prefdelta.merging.registry import Options

SUMS = {"columns": rank_columns, "updates": whole_updates, "basis": shared_basis}
SHAPE = (11, 9)
NONE = Options()


def updates(ranks: tuple[int, ...] = (2, 3, 1)) -> list[LowRank]:
    return [random_update(seed, SHAPE, rank) for seed, rank in enumerate(ranks)]


def constant(directions: Directions, value: float) -> torch.Tensor:
    return torch.full(directions.shape, value, dtype=torch.float64)


def close(left: LowRank, right: LowRank, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(left.dense(), right.dense(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("build", SUMS.values(), ids=SUMS)
@given(ranks=st.lists(st.integers(0, 5), min_size=1, max_size=4), value=st.floats(-2, 2))
@settings(max_examples=25)
def test_equal_coefficients_are_task_arithmetic(build, ranks, value):
    deltas = updates(tuple(ranks))
    directions = build(deltas, NONE)
    close(directions.fold(constant(directions, value)), concat(deltas, [value] * len(deltas)), 1e-11)


@pytest.mark.parametrize("index", range(3))
def test_one_hot_block_is_the_adapter(index):
    deltas = updates()
    for build in SUMS.values():
        directions = build(deltas, NONE)
        coefficients = constant(directions, 0.0)
        if build is rank_columns:
            start = sum(delta.rank for delta in deltas[:index])
            coefficients[start : start + deltas[index].rank] = 1.0
        else:
            coefficients[index] = 1.0
        close(directions.fold(coefficients), deltas[index])


def test_shared_basis_is_that_of_the_dense_definition():
    deltas = updates()
    dense = torch.cat([delta.dense() for delta in deltas], dim=1)
    u, s, vt = torch.linalg.svd(dense, full_matrices=False)
    rank = sum(delta.rank for delta in deltas)
    directions = shared_basis(deltas, NONE)
    assert directions.shape == (3, rank)
    # Full rank reconstructs the concatenation, and signs apart the basis is the SVD's.
    torch.testing.assert_close(directions.left @ directions.left.T @ dense, dense, rtol=0, atol=1e-12)
    torch.testing.assert_close((directions.left.T @ u[:, :rank]).abs(), torch.eye(rank, dtype=torch.float64))
    coefficients = torch.randn(3, rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blocks = vt[:rank].split(SHAPE[1], dim=1)
    reference = sum(u[:, :rank] @ torch.diag(coefficients[i] * s[:rank]) @ blocks[i] for i in range(3))
    torch.testing.assert_close(directions.fold(coefficients).dense(), reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ranks", [(6, 6, 6), (9, 9), (1,), (0, 2)])
def test_shared_basis_is_capped_by_the_shape(ranks):
    deltas = updates(ranks)
    directions = shared_basis(deltas, NONE)
    rank = min(sum(ranks), SHAPE[0], len(ranks) * SHAPE[1])
    assert directions.shape == (len(ranks), rank)
    assert directions.fold(constant(directions, 0.4)).rank <= rank
    close(directions.fold(constant(directions, 0.4)), concat(deltas, [0.4] * len(ranks)), 1e-11)


def test_shared_basis_does_not_depend_on_the_factors():
    deltas = updates()
    coefficients = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    other = [regauged(delta, seed) for seed, delta in enumerate(deltas)]
    close(shared_basis(deltas, NONE).fold(coefficients), shared_basis(other, NONE).fold(coefficients), 1e-9)


def test_rank_columns_depend_on_the_factors():
    deltas = updates()
    coefficients = torch.arange(1.0, 7.0, dtype=torch.float64)
    other = [regauged(delta, seed) for seed, delta in enumerate(deltas)]
    difference = (
        rank_columns(deltas, NONE).fold(coefficients).dense() - rank_columns(other, NONE).fold(coefficients).dense()
    )
    assert float(difference.norm()) > 0.1


@pytest.mark.parametrize("ranks", [(2, 3, 1), (3, 3, 3), (2, 0, 2)])
def test_equal_coefficients_on_aligned_cores_are_gam(ranks):
    deltas = updates(ranks)
    present = sum(rank > 0 for rank in ranks)
    directions = aligned_cores(deltas, GamOptions())
    gam = get_method("gam")(deltas)
    close(directions.fold(constant(directions, 0.4)), gam.scaled(0.4 * present), 1e-10)
    assert directions.fold(constant(directions, 0.4)).rank == max(ranks)


def test_aligned_cores_in_one_subspace_are_task_arithmetic():
    b, a = random_update(0, SHAPE, 3).B, random_update(1, SHAPE, 3).A
    deltas = [LowRank(b @ random_update(seed, (3, 3), 3).dense(), a) for seed in range(3)]
    coefficients = torch.tensor([0.7, -0.2, 1.3], dtype=torch.float64)
    close(aligned_cores(deltas, GamOptions()).fold(coefficients), concat(deltas, coefficients.tolist()), 1e-8)


@pytest.mark.parametrize("name", LEARNED)
def test_core_is_linear_and_moves_with_its_tensors(name):
    method = get_learned(name)
    directions = method.function(updates(), method.parse(None, 3))
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randn(directions.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    combined = directions.core(2 * first - second)
    torch.testing.assert_close(combined, 2 * directions.core(first) - directions.core(second))
    small = directions.to(torch.device("cpu"), torch.float32)
    assert small.fold(first.float()).B.dtype == torch.float32
    torch.testing.assert_close(
        small.fold(first.float()).dense().double(), directions.fold(first).dense(), rtol=1e-4, atol=1e-5
    )


def test_layout_gives_every_module_its_own_part():
    layout = Layout({"b": (2,), "a": (2, 3)}, tied=False)
    vector = torch.arange(8.0)
    assert layout.size == 8
    assert layout.of(vector, "a").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert layout.of(vector, "b").tolist() == [6, 7]
    torch.testing.assert_close(layout.vector(layout.named(vector)), vector)


def test_layout_shared_by_all_modules():
    layout = Layout({"a": (2,), "b": (2,)}, tied=True)
    assert layout.size == 2
    assert layout.of(torch.tensor([1.0, 2.0]), "b").tolist() == [1, 2]
    with pytest.raises(PrefdeltaError, match="cannot share"):
        Layout({"a": (2,), "b": (3,)}, tied=True)


def test_layout_refuses_coefficients_of_another_merge():
    layout = Layout({"a": (2,), "b": (2,)}, tied=False)
    with pytest.raises(PrefdeltaError, match="coefficients of b have shape None"):
        layout.vector({"a": torch.zeros(2)})


def test_gams_options_reach_the_alignment():
    deltas = updates((3, 3, 3))
    second = aligned_cores(deltas, GamOptions(reference=1))
    gam = get_method("gam")(deltas, options={"reference": 1})
    close(second.fold(constant(second, 1 / 3)), gam, 1e-10)
    assert float((second.left - aligned_cores(deltas, GamOptions()).left).norm()) > 0.1
    with pytest.raises(PrefdeltaError, match="GAM's reference is 3, but there are 3 adapters"):
        get_learned("gam-task").parse({"reference": 3}, 3)
    with pytest.raises(PrefdeltaError, match="learned merge gam-task: unknown option 'referenc'"):
        get_learned("gam-task").parse({"referenc": 1}, 3)
    with pytest.raises(PrefdeltaError, match="learned merge tara-b: unknown option 'reference'; it has no options"):
        get_learned("tara-b").parse({"reference": 1}, 3)


def test_unknown_method():
    with pytest.raises(PrefdeltaError, match="did you mean 'ada-module'"):
        get_learned("ada-modul")
    assert all(method.summary.endswith(".") for method in LEARNED.values())
