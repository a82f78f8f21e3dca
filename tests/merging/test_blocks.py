"""What makes element-wise merging possible in bounded memory: exact thresholds, placed noise, blockwise best rank."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lora_fixtures import random_update
from prefdelta.linalg import stream
from prefdelta.linalg.best_rank import RowBlocks, best_rank
from prefdelta.linalg.stream import Stream, largest_magnitudes
from prefdelta.merging import get_method
from prefdelta.merging.methods import combined
from prefdelta.merging.methods.sparsifiers import Noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thresholds_are_exact_whatever_the_blocks(dtype: torch.dtype) -> None:
    values = torch.randn(3, 40, 17, generator=torch.Generator().manual_seed(0), dtype=dtype)
    values[1, :10] = 0.0  # zeros and repetitions are values too
    values[2, :20] = values[2, 20:40]
    places = [1, 7, 340, 680]
    for height in (1, 7, 40):

        def walk(height: int = height) -> Iterator[Tensor]:
            return iter(values.split(height, dim=1))

        found = largest_magnitudes(walk, places)
        expected = values.abs().flatten(1).sort(dim=1, descending=True).values[:, [place - 1 for place in places]]
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thresholds_are_those_of_the_values_that_a_walk_gives(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = [random_update(seed, (41, 33), 5) for seed in range(3)]
    places = [100, 7, 1353, 1]
    for cached, held in ((1 << 21, 1 << 28), (4000, 1 << 28), (4000, 0)):
        monkeypatch.setattr(stream, "_CACHED", cached)
        monkeypatch.setattr(stream, "_HELD", held)
        walked = Stream.products(deltas, dtype)
        values = torch.cat([block.values.clone() for block in walked.walk()], dim=1)
        expected = values.abs().flatten(1).sort(dim=1, descending=True).values[:, [place - 1 for place in places]]
        assert torch.equal(walked.largest_magnitudes(places), expected)


def test_thresholds_of_extreme_values() -> None:
    values = torch.tensor([[[0.0, 5e-324, 1e308, -1e308, 1.0, torch.finfo(torch.float64).tiny]]], dtype=torch.float64)
    found = largest_magnitudes(lambda: iter([values]), [1, 2, 3, 4, 5, 6])
    assert torch.equal(found[0], values.abs().flatten().sort(descending=True).values)


def test_noise_belongs_to_an_entry_and_not_to_a_block() -> None:
    noise = Noise(3, "layers.0.q")
    whole = noise.uniform(1, 0, 9, 7)
    assert torch.equal(torch.cat([noise.uniform(1, 0, 4, 7), noise.uniform(1, 4, 5, 7)]), whole)
    assert not torch.equal(noise.uniform(2, 0, 9, 7), whole)
    assert not torch.equal(Noise(4, "layers.0.q").uniform(1, 0, 9, 7), whole)
    many = noise.uniform(0, 0, 1000, 401)
    assert 0 <= float(many.min()) < 1e-4
    assert 1 - 1e-4 < float(many.max()) < 1
    assert float(many.mean()) == pytest.approx(0.5, abs=2e-3)
    assert float(many.var()) == pytest.approx(1 / 12, rel=1e-2)
    neighbours = torch.corrcoef(torch.stack([many[:-1].flatten(), many[1:].flatten()]))
    assert abs(float(neighbours[0, 1])) < 5e-3


@pytest.mark.parametrize("decay", [0.0, 1.0], ids=["flat", "decaying"])
def test_best_rank_is_within_a_thousandth_of_eckart_young(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, columns, rank = 700, 560, 24
    bulk = torch.randn(rows, columns, generator=generator)
    scale = torch.arange(1, columns + 1).float() ** -decay
    dense = bulk * scale if decay else bulk + random_update(1, (rows, columns), rank, 0.3).dense().float()
    delta, kept = best_rank(RowBlocks(dense.shape, lambda: ((i, dense[i : i + 96]) for i in range(0, rows, 96))), rank)
    s = torch.linalg.svdvals(dense.double())
    best = float(s[rank:].norm())
    error = float((delta.dense() - dense.double()).norm())
    assert best * (1 - 1e-6) <= error <= best * 1.001
    assert kept == pytest.approx(1 - error**2 / float((s**2).sum()), abs=1e-5)
    assert delta.rank == rank


@pytest.mark.parametrize("name", ["ties", "dare-ties", "breadcrumbs", "della", "sce", "knots-ties"])
def test_the_block_size_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = [random_update(seed, (37, 21), 3) for seed in range(3)]
    whole = get_method(name)(deltas, module="m").dense()
    monkeypatch.setattr(stream, "_CACHED", 4 * 3 * 21 * 5)
    monkeypatch.setattr(stream, "_HELD", 0)
    monkeypatch.setattr(combined, "_JOINED", 21 * 8)
    torch.testing.assert_close(get_method(name)(deltas, module="m").dense(), whole, rtol=1e-5, atol=1e-5)


def test_a_full_rank_result_is_cut_to_the_asked_rank_and_says_what_is_kept() -> None:
    deltas = [random_update(seed, (37, 21), 3) for seed in range(3)]
    lower, higher = (get_method("ties").run(deltas, options={"rank": rank}) for rank in (3, 21))
    assert (lower.delta.rank, higher.delta.rank) == (3, 21)
    assert higher.notes["kept_energy"] == pytest.approx(1)
    kept = lower.delta.norm() ** 2 / higher.delta.norm() ** 2
    assert lower.notes["kept_energy"] == pytest.approx(kept, rel=1e-5)
