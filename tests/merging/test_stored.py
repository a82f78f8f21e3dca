"""One λ from what trainings measured: what it is made of, what it does not depend on, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from lora_fixtures import random_update
from prefdelta import merge
from prefdelta.adapters import Adapter, AdapterInfo, write_adapter
from prefdelta.adapters.trained import TRAINING
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.inspection import inspect_adapters
from prefdelta.merging.stored import stored_scale

MODULES = {"layers.0.q": (16, 12), "layers.1.q": (10, 12)}


def store(folder: Path, scale: float) -> None:
    (folder / TRAINING).write_text(json.dumps({"own_scale": {"scale": scale, "margin": 0.5, "pairs": 9}}))


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    folders = []
    for seed, own in enumerate((2.0, 4.0, 8.0)):
        folder = tmp_path / f"delta-{seed}"
        updates = {name: random_update(seed, shape, 2 + seed) for name, shape in MODULES.items()}
        write_adapter(folder, updates.items(), like=AdapterInfo("some/base", "CAUSAL_LM"), dtype=torch.float64)
        store(folder, own)
        folders.append(folder)
    return folders


@pytest.mark.parametrize("method", ["average", "ties", "gam", "truncate-ties"])
def test_the_merge_has_the_norm_that_the_trainings_ask_for(method: str, three: list[Path], tmp_path: Path) -> None:
    report = merge(three, tmp_path / "out", method=method, scale="stored")
    updates = [[Adapter.open(folder).load(name, torch.float64).dense() for name in MODULES] for folder in three]
    squares = [sum(float(update.norm()) ** 2 for update in own) for own in updates]
    average = sum(float((sum(same) / 3).norm()) ** 2 for same in zip(*updates, strict=True)) ** 0.5
    wanted = 2.0 * sum(squares) / 3 / average  # the smallest own scale is 2
    assert report.norm == pytest.approx(wanted, rel=5e-3)  # λ has three digits
    again = merge(three, tmp_path / "again", method=method, scale=report.scale)
    assert again == report
    assert len({entry.scale for entry in report.modules}) == 1


@pytest.mark.parametrize("method", ["average", "ties"])
def test_copies_of_one_adapter_are_no_more_than_it(method: str, three: list[Path], tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(three[0], tmp_path / name)
    one = merge([tmp_path / "a"], tmp_path / "one", method=method, scale="stored")
    copies = merge([tmp_path / name for name in "abc"], tmp_path / "copies", method=method, scale="stored")
    assert copies.norm == pytest.approx(one.norm, rel=5e-3)


def test_one_adapter_gets_its_own_scale(three: list[Path]) -> None:
    for folder, own in zip(three, (2.0, 4.0, 8.0), strict=True):
        assert stored_scale([Adapter.open(folder)], method="average") == own


def test_an_adapter_of_weight_0_does_not_count(three: list[Path]) -> None:
    opened = [Adapter.open(folder) for folder in three]
    found = stored_scale(opened, method="average", weights=[1.0, 2.0, 0.0])
    assert found == stored_scale(opened[:2], method="average", weights=[1.0, 2.0])


def test_what_is_missing_is_told_before_anything_is_written(three: list[Path], tmp_path: Path) -> None:
    merge(three, tmp_path / "merged", method="average")
    with pytest.raises(PrefdeltaError, match=r"merged has no own scale: --scale stored reads it from training\.json"):
        merge([*three, tmp_path / "merged"], tmp_path / "out", method="average", scale="stored")
    store(three[0], 0.0)
    with pytest.raises(PrefdeltaError, match="delta-0 does not prefer its held-out pairs"):
        merge(three, tmp_path / "out", method="average", scale="stored")
    assert not (tmp_path / "out").exists()


def test_inspect_shows_it(three: list[Path], tmp_path: Path) -> None:
    shutil.copytree(three[1], tmp_path / "bare")
    (tmp_path / "bare" / TRAINING).unlink()
    found = inspect_adapters([three[0], tmp_path / "bare"], methods=())
    assert [entry.own_scale for entry in found.adapters] == [2.0, None]
