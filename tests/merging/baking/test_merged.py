"""Merging straight into a base: the same as W + λ M with M computed on dense matrices by the definitions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from lora_fixtures import save_lora, tiny_gpt2, tiny_qwen
from prefdelta.adapters import Adapter
from prefdelta.cli import app
from prefdelta.core import checkpoint
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg import stream
from prefdelta.merging import METHODS, get_method, merge
from prefdelta.merging.baking import ApplyReport, apply_adapter, apply_merge
from prefdelta.merging.baking.bake import REPORT_NAME
from prefdelta.merging.baking.spill import Spill
from prefdelta.merging.methods import combined
from prefdelta.merging.methods.sparsifiers import Noise

WEIGHTS = (1.0, 2.0, -0.5)
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def save_three(model: Callable[[], nn.Module], folder: Path, targets: list[str]) -> list[Path]:
    for seed in range(3):
        save_lora(model(), folder / f"a{seed}", seed, r=2 + seed, lora_alpha=4, target_modules=targets)
    return [folder / f"a{seed}" for seed in range(3)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen") / "base"
    tiny_qwen().save_pretrained(folder, max_shard_size="20KB")
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return save_three(tiny_qwen, tmp_path_factory.mktemp("three"), ["q_proj", "down_proj"])


@pytest.fixture(scope="module")
def straight(base: Path, three: list[Path]) -> tuple[Path, list[Path]]:
    return base, three


@pytest.fixture(scope="module")
def transposed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A base whose weights are stored transposed (Conv1D, one of them square; embedding), and adapters of all three."""
    folder = tmp_path_factory.mktemp("gpt2")
    tiny_gpt2().save_pretrained(folder / "base")
    return folder / "base", save_three(tiny_gpt2, folder, ["c_attn", "c_proj", "wte"])


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def updates(adapters: Sequence[Path]) -> dict[str, list[Tensor]]:
    """Every module's dense updates, one per adapter."""
    opened = [Adapter.open(path) for path in adapters]
    return {name: [each.load(name, torch.float64).dense() for each in opened] for name in opened[0].modules}


def naive_average(stack: Tensor, weights: Tensor, module: str) -> Tensor:
    return torch.einsum("i,iab->ab", weights / weights.sum(), stack)


def naive_ties(stack: Tensor, weights: Tensor, module: str) -> Tensor:
    trimmed = []
    for update in stack:
        least = update.abs().flatten().sort(descending=True).values[int(0.2 * update.numel()) - 1]
        trimmed.append(torch.where(update.abs() >= least, update, 0.0))
    weighted = torch.stack([weight * update for weight, update in zip(weights, trimmed, strict=True)])
    elected = weighted.sum(dim=0).sign()
    agree = weighted.sign() == elected
    total = torch.where(agree, weighted, 0.0).sum(dim=0)
    share = torch.where(agree, weights.abs()[:, None, None], 0.0).sum(dim=0)
    return torch.where(elected != 0, total / share.clamp(min=1e-300), 0.0)


def naive_dare(stack: Tensor, weights: Tensor, module: str) -> Tensor:
    noise = Noise(0, module)
    masks = torch.stack([noise.uniform(place, 0, *stack.shape[1:]) < 0.5 for place in range(len(stack))])
    return torch.einsum("i,iab->ab", weights, torch.where(masks, stack / 0.5, 0.0))


def naive_knots_ties(stack: Tensor, weights: Tensor, module: str) -> Tensor:
    count, rows, columns = stack.shape
    u, s, vt = torch.linalg.svd(stack.permute(1, 0, 2).reshape(rows, count * columns), full_matrices=False)
    keep = s > 1e-10 * s[0]
    coordinates = (s[keep, None] * vt[keep]).reshape(-1, count, columns).permute(1, 0, 2)
    return u[:, keep] @ naive_ties(coordinates, weights, module)


NAIVE = {"average": naive_average, "ties": naive_ties, "dare": naive_dare, "knots-ties": naive_knots_ties}


def expected(old: Tensor, module: str, adapters: Sequence[Path], method: str, scale: float) -> Tensor:
    stack = torch.stack(updates(adapters)[module])
    return old.double() + scale * NAIVE[method](stack, torch.tensor(WEIGHTS).double(), module)


@pytest.mark.parametrize("method", sorted(NAIVE))
def test_equals_the_naive_computation(method: str, base: Path, three: list[Path], tmp_path: Path) -> None:
    report = apply_merge(base, three, tmp_path / "out", method=method, weights=WEIGHTS, scale=0.7)
    old, new = tensors(base), tensors(tmp_path / "out")
    assert old.keys() == new.keys()
    changed = {f"{module}.weight": module for module in updates(three)}
    for name, value in new.items():
        if name in changed:
            wanted = expected(old[name], changed[name], three, method, 0.7)
            torch.testing.assert_close(value.double(), wanted, **CLOSE)
        else:
            assert torch.equal(value, old[name]), name
    assert report.merge is not None
    ranks = {entry.rank for entry in report.merge.modules}
    assert ranks == ({32} if method in ("ties", "dare") else {9})  # the full rank of a 32-row weight, or Σ rᵢ
    assert report.merge.kept_energy == 1


def small_blocks(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    """Let rules see this many entries of all updates at once, and never a whole update."""
    monkeypatch.setattr(stream, "_CACHED", 4 * entries)
    monkeypatch.setattr(stream, "_HELD", 0)
    monkeypatch.setattr(combined, "_JOINED", entries)


@pytest.mark.parametrize("method", sorted(NAIVE))
def test_weights_that_are_stored_transposed(
    method: str, transposed: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapters = transposed
    small_blocks(monkeypatch, 3 * 24 * 5)
    monkeypatch.setattr(checkpoint, "BLOCK_ENTRIES", 24 * 7)
    apply_merge(base, adapters, tmp_path / "out", method=method, weights=WEIGHTS)
    old, new = tensors(base), tensors(tmp_path / "out")
    for module in updates(adapters):
        name = f"{module}.weight"
        torch.testing.assert_close(new[name].double(), expected(old[name].T, module, adapters, method, 1.0).T, **CLOSE)


@pytest.mark.parametrize("method", ["ties", "della", "pico-ties", "knots-ties", "gam"])
@pytest.mark.parametrize("stored", ["straight", "transposed"])
def test_the_block_sizes_do_not_matter(
    method: str, stored: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapters = request.getfixturevalue(stored)
    apply_merge(base, adapters, tmp_path / "whole", method=method)
    small_blocks(monkeypatch, 3 * 32 * 5)
    monkeypatch.setattr(checkpoint, "BLOCK_ENTRIES", 100)
    apply_merge(base, adapters, tmp_path / "blocks", method=method)
    whole, blocks = tensors(tmp_path / "whole"), tensors(tmp_path / "blocks")
    for name, value in whole.items():
        torch.testing.assert_close(blocks[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"regmean"}))  # which needs activations beside
def test_every_method_gives_what_its_adapter_would_or_more(
    method: str, base: Path, three: list[Path], tmp_path: Path
) -> None:
    chosen = get_method(method)
    adapters = three[:2] if method in ("slerp", "nuslerp") else three
    merge(adapters, tmp_path / "merged", method=method, dtype="float64")
    two_steps = apply_adapter(base, tmp_path / "merged", tmp_path / "two")
    report = apply_merge(base, adapters, tmp_path / "one", method=method)
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    stored = json.loads((tmp_path / "merged" / "prefdelta_merge.json").read_text())
    kept = stored["kept_energy"]
    assert (kept < 1 - 1e-6) <= (
        chosen.implementation.full is not None or method == "svd"
    )  # nothing else is cut in an adapter
    assert report.merge is not None
    if chosen.implementation.full is None:
        for name, value in two.items():
            torch.testing.assert_close(one[name], value, rtol=1e-5, atol=1e-6)
        assert report.update_norm == pytest.approx(two_steps.update_norm, rel=1e-9)
    else:
        assert report.merge.kept_energy == 1
        if not method.startswith("pico"):  # which rescales what the cut has left
            assert two_steps.update_norm == pytest.approx(report.update_norm * kept**0.5, rel=1e-4)


def test_one_adapter_at_weight_one_is_applied_as_it_is(base: Path, three: list[Path], tmp_path: Path) -> None:
    single = apply_adapter(base, three[0], tmp_path / "single", scale=0.3)
    merged = apply_merge(base, three[:1], tmp_path / "merged", method="average", scale=0.3)
    assert tensors(tmp_path / "single").keys() == tensors(tmp_path / "merged").keys()
    for name, value in tensors(tmp_path / "single").items():
        assert torch.equal(tensors(tmp_path / "merged")[name], value)
    assert single.merge is None
    assert single.adapters == merged.adapters
    assert single.modules == merged.modules


def test_a_wish_for_a_rank_is_heard(base: Path, three: list[Path], tmp_path: Path) -> None:
    cut = apply_merge(base, three, tmp_path / "cut", method="ties", options={"rank": 2})
    whole = apply_merge(base, three, tmp_path / "whole", method="ties")
    assert cut.merge is not None
    assert {entry.rank for entry in cut.merge.modules} == {2}
    assert cut.merge.kept_energy < 1
    assert any("truncation" in warning for warning in cut.merge.warnings)
    assert cut.update_norm == pytest.approx(whole.update_norm * cut.merge.kept_energy**0.5, rel=1e-4)


@pytest.mark.parametrize("scale", ["norm-matched", "projection"])
@pytest.mark.parametrize("method", ["ties", "gam"])
def test_rules_for_the_scale_hold_for_what_is_baked(
    method: str, scale: Any, base: Path, three: list[Path], tmp_path: Path
) -> None:
    apply_merge(base, three, tmp_path / "plain", method=method)
    report = apply_merge(base, three, tmp_path / "out", method=method, scale=scale)
    assert report.scale == scale
    assert report.merge is not None
    old, plain, new = tensors(base), tensors(tmp_path / "plain"), tensors(tmp_path / "out")
    for entry in report.merge.modules:
        name = f"{entry.module}.weight"
        direction, result = (part[name].double() - old[name].double() for part in (plain, new))
        inputs = updates(three)[entry.module]
        if scale == "norm-matched":
            assert float(result.norm()) == pytest.approx(sum(float(each.norm()) for each in inputs) / 3, rel=1e-4)
        else:  # the derivative of Σ (c pᵢ - ‖ΔWᵢ‖)² vanishes
            lengths = torch.stack([each.norm() for each in inputs])
            components = torch.stack([(direction * each).sum() for each in inputs]) / lengths
            factor = float((components * lengths).sum() / (components**2).sum())
            assert entry.scale == pytest.approx(factor, rel=1e-3)
        assert entry.norm == pytest.approx(float(result.norm()), rel=1e-4)


def test_the_report_tells_what_went_in(base: Path, three: list[Path], tmp_path: Path) -> None:
    report = apply_merge(
        base, three, tmp_path / "out", method="ties", weights=WEIGHTS, scale=2.0, options={"density": 0.5}
    )
    assert ApplyReport.model_validate_json((tmp_path / "out" / REPORT_NAME).read_text()) == report
    assert [entry.fingerprint for entry in report.adapters] == [Adapter.open(path).fingerprint for path in three]
    assert report.merge is not None
    assert (report.merge.method, report.merge.options["density"], report.scale) == ("ties", 0.5, 2.0)
    assert [entry.weight for entry in report.merge.adapters] == list(WEIGHTS)
    old, new = tensors(base), tensors(tmp_path / "out")
    sides = updates(three)
    assert [entry.module for entry in report.merge.modules] == sorted(sides)
    for index, entry in enumerate(report.merge.adapters):
        held = sum(
            float(((new[f"{name}.weight"] - old[f"{name}.weight"]).double() * parts[index]).sum())
            for name, parts in sides.items()
        )
        whole = sum(float((parts[index] ** 2).sum()) for parts in sides.values())
        assert entry.norm == pytest.approx(whole**0.5)
        assert entry.kept_projection == pytest.approx(held / whole, rel=1e-4)
    text = (tmp_path / "out" / REPORT_NAME).read_text()
    assert str(tmp_path) not in text


def test_the_same_bytes_every_time(base: Path, three: list[Path], tmp_path: Path) -> None:
    for name in ("first", "second"):
        apply_merge(base, three, tmp_path / name, method="dare-ties")
    for path in sorted((tmp_path / "first").iterdir()):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


class _Largest(TorchDispatchMode):
    """The number of entries of the largest tensor with memory of its own that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor) and part.device.type != "meta":
                self.entries = max(self.entries, part.numel())
        return result


@pytest.mark.parametrize("method", ["ties", "dare-ties", "sce", "svd"])
@pytest.mark.parametrize("transposed", [False, True])
def test_memory_is_bounded_by_the_blocks(
    method: str, transposed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tensor comes near the size of the weight; counting magnitudes takes 2^16 bins, hence the size of it."""
    width = 384

    def model() -> nn.Module:
        return GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=width, n_layer=1, n_head=2))

    target = "c_attn" if transposed else "lm_head"
    adapters = []
    base = model()
    if not transposed:  # a linear layer as large
        base = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=3 * width, n_positions=8, n_embd=width, n_layer=1, n_head=2, tie_word_embeddings=False
            )
        )
    base.save_pretrained(tmp_path / "base")
    for seed in range(3):
        save_lora(base, tmp_path / f"a{seed}", seed, r=4, lora_alpha=4, target_modules=[target])
        adapters.append(tmp_path / f"a{seed}")
    small_blocks(monkeypatch, 3 * 3 * width * 8)
    monkeypatch.setattr(checkpoint, "BLOCK_ENTRIES", 3 * width * 8)
    with _Largest() as largest:
        apply_merge(tmp_path / "base", adapters, tmp_path / "out", method=method, options=None)
    assert 0 < largest.entries <= 3 * width * width / 4


def test_a_spilled_matrix_reads_back_either_way(tmp_path: Path) -> None:
    matrix = torch.arange(35.0).reshape(7, 5)
    for transposed in (False, True):
        wanted = matrix.T if transposed else matrix
        with (tmp_path / "spill").open("w+b") as handle:
            spill = Spill(handle, (7, 5), transposed)
            for block in matrix.split(3):
                spill.add(block)
            for first in range(len(wanted)):
                for count in range(1, len(wanted) - first + 1):
                    assert torch.equal(spill.rows(first, count), wanted[first : first + count])


def test_refusals_name_the_fault_and_leave_nothing(base: Path, three: list[Path], tmp_path: Path) -> None:
    def refused(pattern: str, *, adapters: Sequence[Path] = three, **more: Any) -> None:
        arguments = {"method": "ties", **more}
        with pytest.raises(PrefdeltaError, match=pattern):
            apply_merge(base, adapters, tmp_path / "out", **arguments)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))]

    save_lora(tiny_gpt2(), tmp_path / "gpt2", 1, r=2, lora_alpha=4, target_modules=["c_attn"])
    save_lora(tiny_qwen(), tmp_path / "narrow", 1, r=2, lora_alpha=4, target_modules=["q_proj"])
    weights = load_file(tmp_path / "narrow" / "adapter_model.safetensors")
    head = tmp_path / "head"
    save_lora(tiny_qwen(), head, 1, r=2, lora_alpha=4, target_modules=["q_proj"])
    save_file(weights | {"base_model.model.classifier.weight": torch.zeros(2, 32)}, head / "adapter_model.safetensors")

    refused("nothing to merge", adapters=[])
    refused("did you mean", method="tie")
    refused("unknown option 'densty'", options={"densty": 0.5})
    refused("2 weights were given for 3", weights=[1, 2])
    refused("finite", scale=float("inf"))
    refused("unknown scale", scale="projektion")
    refused("shares no module", adapters=[three[0], tmp_path / "gpt2"])
    refused(r"merge of gpt2 adapts .*c_attn'.*this base model lacks", adapters=[tmp_path / "gpt2"])
    refused("classifier", adapters=[three[0], head])
    refused("float16 cannot hold", scale=1e6, dtype="float16")
    with pytest.raises(PrefdeltaError, match="would replace"):
        apply_merge(base, three, base, method="ties", overwrite=True)
    with pytest.raises(PrefdeltaError, match="would replace"):
        apply_merge(base, three, three[0], method="ties", overwrite=True)
    dropped = apply_merge(base, [three[0], head], tmp_path / "out", method="ties", extra_weights="drop")
    assert dropped.merge is not None
    assert any("classifier" in warning for warning in dropped.merge.warnings)


def test_the_command_prints_what_was_merged_and_baked(base: Path, three: list[Path], tmp_path: Path) -> None:
    words = ["merge", *map(str, three), "--into", str(base), "--method", "ties", "--scale", "projection"]
    words += ["--weights", "1,2,1", "--dtype", "bfloat16", "--set", "rank=2"]

    def run(name: str, *more: str) -> str:
        given = [*words, "--output", str(tmp_path / name), *more]
        return CliRunner().invoke(app, given, catch_exceptions=False, env={"COLUMNS": "200"}).output

    shown = run("cli")
    apply_merge(
        base, three, tmp_path / "api", method="ties", scale="projection", weights=[1, 2, 1], dtype="bfloat16",
        options={"rank": 2},
    )  # fmt: skip
    for path in sorted((tmp_path / "api").iterdir()):
        assert path.read_bytes() == (tmp_path / "cli" / path.name).read_bytes(), path.name
    assert "ties of a0, a1, a2 baked into base at scale projection" in shown
    assert "warning: truncation to a limited rank kept" in shown
    with pytest.raises(PrefdeltaError, match="--rank 8 is for a stored adapter"):
        run("no", "--rank", "8")


@pytest.mark.parametrize("method", ["ties", "pico-ties", "gam"])
def test_zero_updates_leave_the_base(method: str, base: Path, tmp_path: Path) -> None:
    for seed in range(2):
        save_lora(tiny_qwen(), tmp_path / f"z{seed}", seed, size=0.0, r=2, lora_alpha=4, target_modules=["q_proj"])
    report = apply_merge(base, [tmp_path / "z0", tmp_path / "z1"], tmp_path / "out", method=method, scale="projection")
    for name, value in tensors(base).items():
        assert torch.equal(tensors(tmp_path / "out")[name], value)
    assert any("the model is the base" in warning for warning in report.warnings)
