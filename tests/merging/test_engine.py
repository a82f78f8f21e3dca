"""Merging folders: what comes out, what is reported, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_fixtures import random_update, save_lora, tiny_qwen
from prefdelta.adapters import Adapter, AdapterInfo, write_adapter
from prefdelta.adapters.storage import Storage
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import MergeReport, get_method, merge

SHAPES = {"model.layers.0.q": (12, 10), "model.layers.0.v": (6, 10), "model.layers.1.q": (12, 10)}
BASIC = ("average", "gam", "gam-orthonormal", "gam-norm-matched")
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
Updates = dict[str, LowRank]

EXACT = ("average", "gam", "gam-orthonormal", "gam-norm-matched")
"""Methods without random numbers or truncation of their own, whose default options give a single adapter back."""


def updates(seed: int, rank: int = 2, size: float = 1.0, modules: Sequence[str] = tuple(SHAPES)) -> Updates:
    return {name: random_update(seed + 31 * i, SHAPES[name], rank, size) for i, name in enumerate(modules)}


def save(folder: Path, changes: Updates, info: AdapterInfo | None = None) -> Path:
    write_adapter(folder, changes.items(), like=info or AdapterInfo("some/base", "CAUSAL_LM"), dtype=torch.float64)
    return folder


def read(folder: Path) -> dict[str, torch.Tensor]:
    adapter = Adapter.open(folder)
    return {name: adapter.load(name, torch.float64).dense() for name in adapter.modules}


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [save(tmp_path / name, updates(seed)) for seed, name in enumerate(("ash", "birch", "cedar"))]


@pytest.mark.parametrize("method", EXACT)
def test_every_module_is_merged_by_the_method(method: str, three: list[Path], tmp_path: Path) -> None:
    report = merge(three, tmp_path / "out", method=method, weights=[1, 2, 3], scale=1.5)
    merged = read(tmp_path / "out")
    assert sorted(merged) == sorted(SHAPES)
    for name, dense in merged.items():
        expected = get_method(method)([updates(seed)[name] for seed in range(3)], weights=[1, 2, 3]).scaled(1.5)
        torch.testing.assert_close(dense, expected.dense(), **CLOSE)
    assert report.method == method
    assert report.norm == pytest.approx(sum(float(dense.norm()) ** 2 for dense in merged.values()) ** 0.5)


@pytest.mark.parametrize("method", EXACT)
def test_one_adapter_comes_back(method: str, three: list[Path], tmp_path: Path) -> None:
    merge(three[:1], tmp_path / "out", method=method)
    for name, dense in read(tmp_path / "out").items():
        torch.testing.assert_close(dense, updates(0)[name].dense(), **CLOSE)


def test_the_report_compares_with_the_plain_average(three: list[Path], tmp_path: Path) -> None:
    weights = [3.0, 1.0, 1.0]
    report = merge(three, tmp_path / "out", method="gam", weights=weights, options={"reference": 2}, scale=2.0)
    average, product = 0.0, 0.0
    merged = read(tmp_path / "out")
    for entry in report.modules:
        mean = sum(w / 5 * updates(seed)[entry.module].dense() for seed, w in enumerate(weights))
        assert isinstance(mean, torch.Tensor)
        result = merged[entry.module]
        inner = float((mean * result).sum())
        assert entry.norm == pytest.approx(float(result.norm()))
        assert entry.average_norm == pytest.approx(float(mean.norm()))
        assert entry.cosine_to_average == pytest.approx(inner / float(result.norm() * mean.norm()))
        assert entry.norm_ratio == pytest.approx(float(result.norm() / mean.norm()))
        average += float(mean.norm()) ** 2
        product += inner
    assert report.norm_ratio == pytest.approx(report.norm / average**0.5)
    assert report.cosine_to_average == pytest.approx(product / report.norm / average**0.5)
    assert report.smallest_cosine == min(entry.notes["smallest_cosine"] for entry in report.modules)
    assert report.warnings == ()
    stored = MergeReport.model_validate_json((tmp_path / "out" / "prefdelta_merge.json").read_text())
    assert stored == report


def test_many_adapters_are_compared_with_their_average_only_if_that_is_asked_for(tmp_path: Path) -> None:
    folders = [save(tmp_path / str(seed), updates(seed)) for seed in range(5)]
    silent = merge(folders, tmp_path / "silent", method="gam")
    asked = merge(folders, tmp_path / "asked", method="gam", compare=True)
    assert silent.average_norm is silent.norm_ratio is silent.cosine_to_average is None
    assert all(entry.average_norm is None for entry in silent.modules)
    assert "plain average" not in (tmp_path / "silent" / "README.md").read_text()
    average = merge(folders, tmp_path / "average", method="average", compare=True)
    assert asked.average_norm == pytest.approx(average.norm)
    assert asked.norm == pytest.approx(silent.norm)
    for mine, theirs in zip(silent.adapters, asked.adapters, strict=True):
        assert mine.norm == pytest.approx(theirs.norm)
        assert mine.kept_projection == pytest.approx(theirs.kept_projection)
    for name, dense in read(tmp_path / "silent").items():
        torch.testing.assert_close(dense, read(tmp_path / "asked")[name], **CLOSE)


def test_the_card_and_report_say_where_it_came_from_without_local_paths(tmp_path: Path) -> None:
    info = AdapterInfo(base_model=str(tmp_path / "base-model"), task_type="CAUSAL_LM")
    inputs = [save(tmp_path / name / "adapter", updates(seed), info) for seed, name in enumerate(("ash", "birch"))]
    report = merge(inputs, tmp_path / "out", method="gam-norm-matched", scale=2)
    card = (tmp_path / "out" / "README.md").read_text()
    assert [entry.name for entry in report.adapters] == ["ash/adapter", "birch/adapter"]
    assert [entry.fingerprint for entry in report.adapters] == [Adapter.open(path).fingerprint for path in inputs]
    for text in ("ash/adapter", report.adapters[1].fingerprint[:16], "`gam-norm-matched`", "scale 2", "base-model"):
        assert text in card
    assert str(tmp_path) not in card
    assert str(tmp_path) not in (tmp_path / "out" / "prefdelta_merge.json").read_text()


def test_a_module_that_one_adapter_lacks(tmp_path: Path) -> None:
    """To the average the missing update is zero; to GAM there is nothing to align."""
    first = save(tmp_path / "a", updates(0))
    second = save(tmp_path / "b", updates(1, modules=["model.layers.0.q"]))
    report = merge([first, second], tmp_path / "average", method="average")
    alone = updates(0)["model.layers.1.q"].dense()
    torch.testing.assert_close(read(tmp_path / "average")["model.layers.1.q"], alone / 2, **CLOSE)
    assert [entry.adapters for entry in report.modules] == [(0, 1), (0,), (0,)]
    assert any("2 of 3 modules are not adapted by every adapter" in warning for warning in report.warnings)
    merge([first, second], tmp_path / "gam", method="gam")
    torch.testing.assert_close(read(tmp_path / "gam")["model.layers.1.q"], alone, **CLOSE)


@pytest.mark.parametrize("method", EXACT)
def test_a_given_rank_is_the_rank_of_every_module(method: str, three: list[Path], tmp_path: Path) -> None:
    exact = merge(three, tmp_path / "exact", method=method)
    padded = merge(three, tmp_path / "padded", method=method, rank=16)
    cut = merge(three, tmp_path / "cut", method=method, rank=1)
    servable = merge(three, tmp_path / "servable", method=method, rank="servable")
    assert padded.stored_ranks == (16,)
    assert servable.stored_ranks == (8,)
    assert cut.stored_ranks == (1,)
    assert exact.kept_energy == padded.kept_energy == servable.kept_energy == 1
    assert any("truncation to rank 1 kept" in warning for warning in cut.warnings)
    whole = read(tmp_path / "exact")
    kept, total = 0.0, 0.0
    for name, dense in whole.items():
        for folder in ("padded", "servable"):
            torch.testing.assert_close(read(tmp_path / folder)[name], dense, **CLOSE)
        s = torch.linalg.svdvals(dense)
        best = read(tmp_path / "cut")[name]
        torch.testing.assert_close(torch.linalg.svdvals(best)[0], s[0], **CLOSE)
        assert float((best - dense).norm() ** 2) == pytest.approx(float((s[1:] ** 2).sum()), rel=1e-6, abs=1e-9)
        kept, total = kept + float(s[0] ** 2), total + float((s**2).sum())
    assert cut.kept_energy == pytest.approx(kept / total)


def test_the_stored_type_is_the_widest_of_the_inputs_or_the_asked_one(tmp_path: Path) -> None:
    like = AdapterInfo("some/base")
    halves = []
    for seed, dtype in enumerate((torch.bfloat16, torch.float16, torch.bfloat16)):
        write_adapter(tmp_path / str(seed), updates(seed).items(), like=like, dtype=dtype)
        halves.append(tmp_path / str(seed))
    assert merge([halves[0], halves[2]], tmp_path / "a", method="average").dtype == "bfloat16"
    assert merge(halves, tmp_path / "b", method="average").dtype == "float32"
    assert merge(halves, tmp_path / "c", method="average", dtype="float16").dtype == "float16"
    assert Adapter.open(tmp_path / "c").dtype == torch.float16
    with pytest.raises(PrefdeltaError, match="unknown dtype 'bf16'"):
        merge(halves, tmp_path / "d", method="average", dtype="bf16")


def test_averaging_bfloat16_adapters_of_power_of_two_count_rounds_nothing(tmp_path: Path) -> None:
    for seed in range(2):
        write_adapter(tmp_path / str(seed), updates(seed).items(), like=AdapterInfo(), dtype=torch.bfloat16)
    merge([tmp_path / "0", tmp_path / "1"], tmp_path / "out", method="average")
    first, second, merged = (read(tmp_path / name) for name in ("0", "1", "out"))
    for name in merged:
        torch.testing.assert_close(merged[name], (first[name] + second[name]) / 2, rtol=1e-12, atol=1e-12)


def test_progress_is_told(three: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    merge(three, tmp_path / "out", method="average", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_deserves_a_warning_gets_one(tmp_path: Path) -> None:
    zero = {name: LowRank.zero(shape) for name, shape in SHAPES.items()}
    half_zero = {**updates(3), "model.layers.0.v": LowRank.zero((6, 10))}
    inputs = [
        save(tmp_path / "quiet", updates(0)),
        save(tmp_path / "loud", updates(1, size=100)),
        save(tmp_path / "untrained", zero, AdapterInfo("other/base-2", "SEQ_CLS")),
        save(tmp_path / "partly", half_zero, AdapterInfo("/data/models/base")),
    ]
    report = merge(inputs, tmp_path / "out", method="gam", options={"reference": 3})
    text = "\n".join(report.warnings)
    assert "different base models (base, other/base-2, some/base)" in text
    assert "different task types" in text
    assert "untrained: its update is zero everywhere" in text
    assert "partly: its update is zero in 1 of 3 modules" in text
    assert "loud: its update is" in text
    assert "in 1 modules the adapter of the largest rank stood in for the reference (model.layers.0.v)" in text
    assert Adapter.open(tmp_path / "out").config["task_type"] is None


def test_orthogonal_adapters_are_warned_of(tmp_path: Path) -> None:
    eye = torch.eye(6, dtype=torch.float64)
    inputs = [
        save(tmp_path / str(index), {"q": LowRank(eye[:, 2 * index : 2 * index + 2], eye[:2])}) for index in range(2)
    ]
    report = merge(inputs, tmp_path / "out", method="gam")
    assert any("their alignment is not determined" in warning for warning in report.warnings)


def test_heads_are_refused_unless_dropping_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "head"
    save_lora(tiny_qwen(), folder, seed=1, r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({**tensors, "base_model.model.score.weight": torch.zeros(2, 4)}, folder / "adapter_model.safetensors")
    with pytest.raises(PrefdeltaError, match=r"fully trained tensors .*score\.weight"):
        merge([folder], tmp_path / "out", method="average")
    assert not (tmp_path / "out").exists()
    report = merge([folder], tmp_path / "out", method="average", extra_weights="drop")
    assert report.adapters[0].dropped_tensors == ("base_model.model.score.weight",)
    assert Adapter.open(tmp_path / "out").extra == ()
    assert Adapter.open(tmp_path / "out").config["task_type"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gamm"}, "there is no merge method 'gamm'; did you mean 'gam'"),
        ({"weights": [1.0]}, "1 weights were given for 3 adapters"),
        ({"weights": [1.0, float("nan"), 1.0]}, "weights must be finite"),
        ({"scale": float("inf")}, "scale must be a finite number"),
        ({"rank": 0}, "positive whole number or 'servable'"),
        ({"rank": "serveable"}, "positive whole number or 'servable'"),
        ({"options": {"refrence": 1}}, "unknown option 'refrence'; did you mean 'reference'"),
        ({"options": {"reference": 3}}, "reference is 3, but there are 3 adapters"),
        ({"extra_weights": "merge"}, "must be 'refuse' or 'drop'"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(
    arguments: dict[str, Any], message: str, three: list[Path], tmp_path: Path
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(PrefdeltaError, match=message):
        merge(three, tmp_path / "out", **{"method": "gam", **arguments})
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_adapters_that_do_not_fit_are_refused(three: list[Path], tmp_path: Path) -> None:
    wider = save(tmp_path / "wider", {"model.layers.0.q": random_update(0, (12, 14), 2)})
    with pytest.raises(PrefdeltaError, match=r"module model\.layers\.0\.q is 12x10 in ash but 12x14 in wider"):
        merge([three[0], wider], tmp_path / "out", method="average")
    stranger = save(tmp_path / "stranger", {"transformer.h.0": random_update(0, (12, 14), 2)})
    with pytest.raises(PrefdeltaError, match="stranger shares no module with the other adapters"):
        merge([*three, stranger], tmp_path / "out", method="average")
    embedding = save(
        tmp_path / "e",
        {"model.layers.0.q": updates(0)["model.layers.0.q"]},
        AdapterInfo(storage={"model.layers.0.q": Storage(embedding=True)}),
    )
    with pytest.raises(PrefdeltaError, match="is an embedding in e but a linear layer in ash"):
        merge([three[0], embedding], tmp_path / "out", method="average")
    with pytest.raises(PrefdeltaError, match="nothing to merge"):
        merge([], tmp_path / "out", method="average")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_replaced(three: list[Path], tmp_path: Path) -> None:
    for output in (three[0], tmp_path, three[0] / ".." / "ash"):
        with pytest.raises(PrefdeltaError, match="would replace the input"):
            merge(three, output, method="average", overwrite=True)
    assert len(Adapter.open(three[0]).modules) == 3


def test_a_value_that_is_not_finite_stops_the_merge_cleanly(three: list[Path], tmp_path: Path) -> None:
    tensors = load_file(three[1] / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.q.lora_B.weight"
    save_file({**tensors, name: tensors[name] * float("nan")}, three[1] / "adapter_model.safetensors")
    (three[1] / "manifest.json").unlink()  # else the change itself is what is told
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(PrefdeltaError, match=r"birch.*factor B of module model\.layers\.1\.q holds NaN"):
        merge(three, tmp_path / "out", method="average")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_same_bytes_whatever_the_threads_and_the_hash_seed(tmp_path: Path) -> None:
    """Another process, with two threads and another hash seed, over modules large enough to be split among threads."""
    inputs = [tmp_path / name for name in ("ash", "birch", "cedar")]
    for seed, folder in enumerate(inputs):
        save(folder, {f"layers.{index}.q": random_update(seed + 9 * index, (900, 700), 24) for index in range(2)})
    merge(inputs, tmp_path / "one", method="gam-orthonormal", rank=20)
    script = (
        "import sys, torch; from prefdelta.merging import merge; torch.set_num_threads(2);"
        "merge(sys.argv[2:], sys.argv[1], method='gam-orthonormal', rank=20)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    command = [sys.executable, "-c", script, str(tmp_path / "two"), *map(str, inputs)]
    subprocess.run(command, check=True, env=environment)
    one, two = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())} for name in ("one", "two")
    )
    assert one == two
    assert sorted(one) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "prefdelta_merge.json",
    ]


def test_json_report_holds_plain_numbers(three: list[Path], tmp_path: Path) -> None:
    merge(three, tmp_path / "out", method="gam")
    text = (tmp_path / "out" / "prefdelta_merge.json").read_text()
    assert "NaN" not in text
    report = json.loads(text)
    assert report["options"] == {"reference": 0, "tolerance": 1e-7}
    assert [entry["module"] for entry in report["modules"]] == sorted(SHAPES)
