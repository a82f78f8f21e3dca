from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lora_fixtures import random_update, regauged
from prefdelta.adapters import Adapter, AdapterInfo, write_adapter
from prefdelta.cli.inspecting import print_inspection
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import METHODS, get_method
from prefdelta.merging.inspection import PREVIEWED, Inspection, inspect_adapters
from prefdelta.report.inspection import render
from prefdelta.report.matrix_layout import lay_out

MODULES = {"model.layers.0.q_proj": (20, 24), "model.layers.1.q_proj": (300, 12), "lm_head": (30, 16)}


def write(folder: Path, updates: dict[str, LowRank]) -> Path:
    info = AdapterInfo(base_model="org/base", task_type="CAUSAL_LM")
    write_adapter(folder, updates.items(), like=info, dtype=torch.float64)
    return folder


def updates_of(seed: int, size: float = 1.0) -> dict[str, LowRank]:
    return {name: random_update(seed + index, shape, 4, size) for index, (name, shape) in enumerate(MODULES.items())}


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"adapter-{seed}", updates_of(10 * seed)) for seed in (1, 2, 3)]


def test_numbers_equal_the_dense_ones(folders: list[Path]) -> None:
    found = inspect_adapters(folders, methods=["average", "linear", "gam"])
    dense = [{name: delta.dense() for name, delta in updates_of(10 * seed).items()} for seed in (1, 2, 3)]
    norms = [math.sqrt(sum(float(value.square().sum()) for value in each.values())) for each in dense]
    assert [entry.norm for entry in found.adapters] == pytest.approx(norms)
    for pair in found.pairs:
        left, right = dense[pair.first], dense[pair.second]
        product = sum(float((left[name] * right[name]).sum()) for name in MODULES)
        assert pair.cosine == pytest.approx(product / norms[pair.first] / norms[pair.second], abs=1e-12)
        assert pair.norm_ratio == pytest.approx(norms[pair.second] / norms[pair.first])
    assert found.methods[0].norm_ratio == pytest.approx(1.0)
    assert found.methods[0].cosine == pytest.approx(1.0)
    assert found.methods[1].norm_ratio == pytest.approx(3.0)
    assert found.methods[2].norm_ratio != pytest.approx(1.0, abs=0.1)


def test_small_modules_give_the_exact_sign_conflict(folders: list[Path]) -> None:
    found = inspect_adapters(folders[:2], methods=())
    first, second = updates_of(10), updates_of(20)
    for entry in found.module_pairs:
        if entry.module == "model.layers.1.q_proj":
            continue  # 300 rows: sampled
        opposite = (first[entry.module].dense() * second[entry.module].dense() < 0).double().mean()
        sign = entry.pairs[0].sign
        assert sign is not None
        assert sign.share == pytest.approx(float(opposite))
        assert sign.expected == pytest.approx(math.acos(entry.pairs[0].cosine) / math.pi)


def test_gaussian_updates_have_no_excess_conflict(tmp_path: Path) -> None:
    """The arccos law is that of Gaussian entries; a product of many random columns comes close to them."""
    generator = torch.Generator().manual_seed(0)
    shared, own = (
        LowRank(
            torch.randn(300, 60, generator=generator, dtype=torch.float64),
            torch.randn(60, 300, generator=generator, dtype=torch.float64),
        )
        for _ in range(2)
    )
    mixed = LowRank(torch.cat([shared.B, own.B], 1), torch.cat([shared.A, 0.7 * own.A], 0))
    found = inspect_adapters(
        [write(tmp_path / "a", {"m.0.q": shared}), write(tmp_path / "b", {"m.0.q": mixed})], methods=()
    )
    assert found.pairs[0].cosine == pytest.approx(1 / math.sqrt(1.49), abs=0.02)
    assert found.pairs[0].sign is not None
    assert abs(found.pairs[0].sign.excess) < 0.01


def test_the_numbers_belong_to_the_update_not_to_its_factors(folders: list[Path], tmp_path: Path) -> None:
    again = write(tmp_path / "again", {name: regauged(delta, 5) for name, delta in updates_of(20).items()})
    before, after = (inspect_adapters([folders[0], other], methods=()).pairs[0] for other in (folders[1], again))
    for name in ("cosine", "norm_ratio", "overlap_out", "overlap_in"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-9)


def test_an_adapter_and_its_copy(folders: list[Path], tmp_path: Path) -> None:
    copy = write(tmp_path / "copy", {name: delta.scaled(-2) for name, delta in updates_of(10).items()})
    pair = inspect_adapters([folders[0], copy], methods=()).pairs[0]
    assert pair.cosine == pytest.approx(-1)
    assert pair.norm_ratio == pytest.approx(2)
    assert pair.overlap_out == pytest.approx(1)
    assert pair.angles_in == pytest.approx((0, 0), abs=1e-4)
    assert pair.sign is not None
    assert pair.sign.share == 1


def test_effective_rank_counts_equal_directions(tmp_path: Path) -> None:
    basis = torch.linalg.qr(torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    found = inspect_adapters([write(tmp_path / "a", {"m.0.q": LowRank(basis, basis.T)})])
    assert found.adapters[0].effective_rank == pytest.approx(3)
    assert found.pairs == ()
    assert found.methods == ()


def test_warnings_name_what_spoils_a_merge(folders: list[Path], tmp_path: Path) -> None:
    big = write(tmp_path / "big", updates_of(40, size=30.0))
    empty = write(tmp_path / "empty", {"lm_head": LowRank.zero((30, 16))})
    found = inspect_adapters([*folders, big, empty], methods=["average"])
    assert any(warning.startswith("big") and "swamps" in warning for warning in found.warnings)
    assert any(warning.startswith("empty") and "never trained" in warning for warning in found.warnings)
    assert any("2 of 3 modules are not adapted by every adapter" in warning for warning in found.warnings)
    assert found.adapters[-1].coverage == 0
    with pytest.raises(PrefdeltaError, match=r"lm_head is 30x16 in .* but 31x16"):
        inspect_adapters([big, write(tmp_path / "other", {"lm_head": random_update(1, (31, 16), 2)})])
    with pytest.raises(PrefdeltaError, match="no merge method 'averge'"):
        inspect_adapters(folders, methods=["averge"])


def test_methods_that_cannot_merge_are_named(folders: list[Path]) -> None:
    found = inspect_adapters(folders, methods=["slerp", "average"])
    assert found.methods[0].refusal
    assert found.methods[1].norm_ratio is not None


def test_a_full_rank_merge_is_previewed_before_its_rank_is_cut(folders: list[Path]) -> None:
    (found,) = inspect_adapters(folders, methods=["ties"]).methods
    squares = products = sizes = 0.0
    opened = [Adapter.open(folder) for folder in folders]
    for module in sorted({module for adapter in opened for module in adapter.modules}):
        shape = next(adapter.shape(module) for adapter in opened if module in adapter.modules)
        deltas = [
            adapter.load(module, torch.float64) if module in adapter.modules else LowRank.zero(shape)
            for adapter in opened
        ]
        whole = get_method("ties")(deltas, options={"rank": min(shape)}).dense()
        plain = get_method("average")(deltas).dense()
        squares += float((whole**2).sum())
        products += float((whole * plain).sum())
        sizes += float((plain**2).sum())
    assert found.norm_ratio == pytest.approx((squares / sizes) ** 0.5, rel=1e-4)
    assert found.cosine == pytest.approx(products / (squares * sizes) ** 0.5, rel=1e-4)


def test_a_few_methods_are_previewed_and_the_rest_is_told(folders: list[Path]) -> None:
    found = inspect_adapters(folders)
    assert [entry.method for entry in found.methods] == list(PREVIEWED)
    assert "ties" in PREVIEWED
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_inspection(found, console)
    left_out = len(METHODS) - len(PREVIEWED)
    assert f"--methods NAME,NAME or --methods all previews the other {left_out}" in console.export_text()


def test_json_page_and_table(folders: list[Path], tmp_path: Path) -> None:
    found = inspect_adapters(folders, methods=["average", "slerp"])
    assert Inspection.model_validate_json(found.model_dump_json()) == found
    assert inspect_adapters(folders, methods=["average", "slerp"]) == found

    (tmp_path / "page.html").write_text(render(found), encoding="utf-8")
    page = (tmp_path / "page.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert page.count('<svg class="map"') == 1 + 3 + 4 * 3  # the legend, sizes, four measures of three pairs
    for pair in found.module_pairs[0].pairs:
        assert f"{found.module_pairs[0].module}: {pair.cosine:+.3f}" in page

    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_inspection(found, console)
    text = console.export_text()
    assert "adapter-1 / adapter-2" in text
    assert "not previewed: slerp" in text


def test_layout_puts_layers_in_columns() -> None:
    layout = lay_out(["lm_head", "model.layers.10.q", "model.layers.2.mlp.up", "model.layers.2.q"])
    assert layout.columns == ("2", "10", "–")
    assert [(layout.rows[row], layout.columns[column]) for row, column in layout.places] == [
        ("lm_head", "–"),
        ("q", "10"),
        ("mlp.up", "2"),
        ("q", "2"),
    ]
    both = lay_out(["encoder.block.0.q", "decoder.block.0.q"])
    assert both.rows == ("encoder.block.q", "decoder.block.q")


def test_real_adapters(shared_data: Path) -> None:
    folder = shared_data / "adapters" / "gpt2"
    found = inspect_adapters([folder / name for name in ("emotion-a", "emotion-b", "untrained-zero-b")], methods=())
    assert len(found.pairs) == 1
    assert -1 <= found.pairs[0].cosine <= 1
    assert any("untrained-zero-b" in warning and "zero everywhere" in warning for warning in found.warnings)
