"""How adapters lie to one another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_fixtures import random_orthogonal, random_update
from prefdelta.adapters import AdapterInfo, write_adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import compare


def save(folder: Path, **updates: LowRank) -> Path:
    write_adapter(folder, updates.items(), like=AdapterInfo(), dtype=torch.float64)
    return folder


def test_cosines_and_norms_are_those_of_the_dense_updates(tmp_path: Path) -> None:
    first = {"q": random_update(0, (12, 10), 3), "v": random_update(1, (8, 10), 3)}
    second = {"q": random_update(2, (12, 10), 2), "v": random_update(3, (8, 10), 4)}
    geometry = compare([save(tmp_path / "a", **first), save(tmp_path / "b", **second)])
    flat = [torch.cat([side[name].dense().flatten() for name in ("q", "v")]) for side in (first, second)]
    assert geometry.names == ("a", "b")
    assert geometry.norms == pytest.approx([float(side.norm()) for side in flat])
    (pair,) = geometry.pairs
    assert pair.cosine == pytest.approx(float(flat[0] @ flat[1] / flat[0].norm() / flat[1].norm()))
    assert pair.norm_ratio == pytest.approx(float(flat[1].norm() / flat[0].norm()))
    for entry in pair.modules:
        a, b = first[entry.module].dense(), second[entry.module].dense()
        assert entry.cosine == pytest.approx(float((a * b).sum() / a.norm() / b.norm()))


def test_principal_cosines_of_known_subspaces(tmp_path: Path) -> None:
    """One shared direction and one at a known angle in U; the same space in V."""
    basis, right = random_orthogonal(0, 9), random_orthogonal(1, 7)[:2]
    angle = torch.tensor(0.3, dtype=torch.float64)
    tilted = torch.stack([basis[:, 0], torch.cos(angle) * basis[:, 1] + torch.sin(angle) * basis[:, 2]], dim=1)
    turn = random_orthogonal(2, 2)
    first, second = LowRank(basis[:, :2], right), LowRank(tilted @ turn, 3 * turn @ right)
    (pair,) = compare([save(tmp_path / "a", q=first), save(tmp_path / "b", q=second)]).pairs
    (entry,) = pair.modules
    cosine = float(torch.cos(angle))
    assert entry.U.smallest_cosine == pytest.approx(cosine)
    assert entry.U.mean_cosine == pytest.approx((1 + cosine) / 2)
    assert entry.U.overlap == pytest.approx((1 + cosine**2) / 2)
    assert entry.V.smallest_cosine == pytest.approx(1)
    assert entry.U.overlap_by_chance == pytest.approx(2 / 9)
    assert pair.overlap_u == pytest.approx(entry.U.overlap)
    assert pair.mean_cosine_v == pytest.approx(1)


def test_unrelated_subspaces_overlap_as_much_as_chance_says(tmp_path: Path) -> None:
    folders = [save(tmp_path / str(seed), q=random_update(seed, (200, 150), 8)) for seed in range(6)]
    geometry = compare(folders)
    assert len(geometry.pairs) == 15
    for overlap, chance, dimension in (
        ("overlap_u", "overlap_by_chance_u", 200),
        ("overlap_v", "overlap_by_chance_v", 150),
    ):
        assert getattr(geometry.pairs[0], chance) == pytest.approx(8 / dimension)
        mean = sum(getattr(pair, overlap) for pair in geometry.pairs) / 15
        assert mean == pytest.approx(8 / dimension, rel=0.1)


def test_a_missing_module_and_a_zero_update(tmp_path: Path) -> None:
    whole = save(tmp_path / "a", q=random_update(0, (6, 5), 2), v=random_update(1, (6, 5), 2))
    part = save(tmp_path / "b", q=random_update(0, (6, 5), 2))
    zero = save(tmp_path / "c", q=LowRank.zero((6, 5)))
    geometry = compare([whole, part, zero])
    both = geometry.pairs[0]
    assert [entry.module for entry in both.modules] == ["q"]
    assert both.cosine == pytest.approx(geometry.norms[1] / geometry.norms[0])
    assert geometry.norms[2] == 0
    assert geometry.pairs[1].cosine is None
    assert geometry.pairs[1].overlap_u is None


def test_adapters_of_different_bases_are_refused(tmp_path: Path) -> None:
    folders = [save(tmp_path / name, q=random_update(0, (rows, 5), 2)) for name, rows in (("a", 6), ("b", 7))]
    with pytest.raises(PrefdeltaError, match="module q is 6x5 in a but 7x5 in b"):
        compare(folders)
