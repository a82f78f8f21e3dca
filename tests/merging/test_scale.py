"""How large a merge is made, and what is reported of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lora_fixtures import random_orthogonal, random_update
from prefdelta.adapters import Adapter, AdapterInfo, write_adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import engine, merge
from prefdelta.merging.scale import Scale, factor_for

MODULES = {"layers.0.q": (16, 12), "layers.1.q": (10, 12)}


def save(folder: Path, updates: dict[str, LowRank]) -> Path:
    write_adapter(folder, updates.items(), like=AdapterInfo("some/base", "CAUSAL_LM"), dtype=torch.float64)
    return folder


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [
        save(tmp_path / str(seed), {name: random_update(seed, shape, 2 + seed) for name, shape in MODULES.items()})
        for seed in range(3)
    ]


def load(folder: Path, name: str) -> LowRank:
    return Adapter.open(folder).load(name, torch.float64)


@pytest.mark.parametrize("method", ["average", "gam", "ties", "core-dare"])
def test_norm_matched_gives_every_module_the_mean_norm_of_the_updates(
    method: str, three: list[Path], tmp_path: Path
) -> None:
    weights = [1.0, 2.0, 0.5]
    report = merge(three, tmp_path / "out", method=method, weights=weights, scale="norm-matched")
    for entry in report.modules:
        norms = [load(folder, entry.module).norm() for folder in three]
        wanted = sum(weight * norm for weight, norm in zip(weights, norms, strict=True)) / 3.5
        assert load(tmp_path / "out", entry.module).norm() == pytest.approx(wanted)
        assert entry.norm == pytest.approx(wanted)
    assert report.scale == "norm-matched"


@pytest.mark.parametrize("method", ["average", "gam", "knots-ties"])
def test_projection_is_the_least_squares_factor(method: str, three: list[Path], tmp_path: Path) -> None:
    plain = merge(three, tmp_path / "plain", method=method)
    report = merge(three, tmp_path / "out", method=method, scale="projection")
    for entry, unscaled in zip(report.modules, plain.modules, strict=True):
        merged = load(tmp_path / "plain", entry.module)
        updates = [load(folder, entry.module) for folder in three]

        def missed(factor: float, merged: LowRank = merged, updates: list[LowRank] = updates) -> float:
            return sum((factor * merged.inner(update) / update.norm() - update.norm()) ** 2 for update in updates)

        assert unscaled.scale == 1
        assert missed(entry.scale) < min(missed(entry.scale * 1.01), missed(entry.scale * 0.99))
    for entry, folder in zip(report.adapters, three, strict=True):
        inner = sum(load(tmp_path / "out", name).inner(load(folder, name)) for name in MODULES)
        square = sum(load(folder, name).norm() ** 2 for name in MODULES)
        assert entry.kept_projection == pytest.approx(inner / square)


def test_projection_makes_the_average_a_sum_or_leaves_it(tmp_path: Path) -> None:
    u = random_orthogonal(0, 16)
    apart = [save(tmp_path / f"a{i}", {"q": LowRank(u[:, i : i + 1], u[i : i + 1])}) for i in range(3)]
    merge(apart, tmp_path / "sum", method="average", scale="projection")
    total = sum(load(folder, "q").dense() for folder in apart)
    torch.testing.assert_close(load(tmp_path / "sum", "q").dense(), total, rtol=1e-10, atol=1e-10)
    merge([apart[0]] * 3, tmp_path / "same", method="average", scale="projection")
    torch.testing.assert_close(load(tmp_path / "same", "q").dense(), load(apart[0], "q").dense())


def test_the_rules_count_what_is_there_and_turn_with_the_weights() -> None:
    given = {"norm": 2.0, "norms": [3.0, 0.0, 1.0], "weights": [1.0, 1.0, 1.0]}
    assert factor_for("norm-matched", inner=[1, 0, 1], **given) == 1.0  # the mean norm of two, 2, over 2
    assert factor_for("projection", inner=[6.0, 0.0, 1.0], **given) == pytest.approx(7 / (4 + 1))
    assert factor_for("projection", inner=[-6.0, 0.0, 1.0], **given) == 1.0
    turned = factor_for("projection", inner=[-6.0, 0.0, 1.0], norm=2.0, norms=[3.0, 0.0, 1.0], weights=[-1.0, 1.0, 1.0])
    assert turned == pytest.approx(7 / (4 + 1))
    assert factor_for("projection", inner=[0.0], norm=0.0, norms=[1.0], weights=[1.0]) == 1.0
    assert factor_for(-2.5, inner=[1, 0, 1], **given) == -2.5


@pytest.mark.parametrize("scale", ["norm-match", float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale: Scale, three: list[Path], tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="scale"):
        merge(three, tmp_path / "out", method="average", scale=scale)
    assert not (tmp_path / "out").exists()


def test_a_limited_full_rank_merge_reports_what_both_cuts_keep(three: list[Path], tmp_path: Path) -> None:
    whole = merge(three, tmp_path / "whole", method="ties", options={"rank": 10})
    cut = merge(three, tmp_path / "cut", method="ties", options={"rank": 5}, rank=2)
    for entry, full in zip(cut.modules, whole.modules, strict=True):
        assert entry.rank == 2
        share = entry.norm**2 / (full.norm**2 / full.kept_energy)
        assert entry.kept_energy == pytest.approx(share, rel=1e-4)
    assert any("truncation to rank 2 kept" in warning for warning in cut.warnings)


def test_random_methods_write_the_same_bytes_whatever_modules_there_are(three: list[Path], tmp_path: Path) -> None:
    options = {"seed": 3}
    merge(three, tmp_path / "first", method="dare-ties", options=options)
    merge(three, tmp_path / "second", method="dare-ties", options=options)
    names = ["adapter_model.safetensors", "adapter_config.json", "prefdelta_merge.json"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    alone = []
    for index, folder in enumerate(three):
        alone.append(save(tmp_path / f"alone{index}", {"layers.1.q": load(folder, "layers.1.q")}))
    merge(alone, tmp_path / "alone", method="dare-ties", options=options)
    assert torch.equal(load(tmp_path / "alone", "layers.1.q").dense(), load(tmp_path / "first", "layers.1.q").dense())
    stored = json.loads((tmp_path / "first" / "prefdelta_merge.json").read_text(encoding="utf-8"))
    assert stored["options"]["seed"] == 3


@pytest.mark.parametrize("method", ["gam", "dare-ties", "svd"])
def test_the_number_of_workers_changes_no_byte(
    method: str, three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(three, tmp_path / "two", method=method)
    monkeypatch.setattr(engine, "_WORKERS", 1)
    merge(three, tmp_path / "one", method=method)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
