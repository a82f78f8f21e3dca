from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from lora_fixtures import as_weight, logits, save_lora, tiny_gpt2, tiny_qwen
from prefdelta.adapters import Adapter
from prefdelta.core import checkpoint
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.baking import apply_adapter
from prefdelta.merging.baking.bake import REPORT_NAME
from tiny import tiny_model

ATTENTION = ["q_proj", "k_proj", "o_proj", "down_proj"]


def save_base(model: nn.Module, folder: Path, dtype: torch.dtype = torch.float32, shard: str = "50GB") -> Path:
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def load(folder: Path, dtype: str | torch.dtype = "auto") -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def ulp(value: Tensor) -> Tensor:
    """The spacing of a type's numbers at ``value``, in float64."""
    info = torch.finfo(value.dtype)
    exponent = torch.floor(torch.log2(value.double().abs().clamp_min(info.tiny)))
    return torch.exp2(exponent) * info.eps


@pytest.mark.parametrize(
    ("dtype", "ulps", "shard"),
    [(torch.float32, 3, "10KB"), (torch.bfloat16, 1, "50GB"), (torch.float16, 1, "10KB")],
)
def test_equals_peft(tmp_path: Path, dtype: torch.dtype, ulps: int, shard: str) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base", dtype, shard)
    save_lora(tiny_qwen(), tmp_path / "adapter", 1, r=4, lora_alpha=12, use_rslora=True, target_modules=ATTENTION)
    apply_adapter(base, tmp_path / "adapter", tmp_path / "baked")

    original, baked = load(base).state_dict(), load(tmp_path / "baked").state_dict()
    merged = PeftModel.from_pretrained(load(base), tmp_path / "adapter").merge_and_unload().state_dict()
    exact = PeftModel.from_pretrained(load(base), tmp_path / "adapter").double().merge_and_unload().state_dict()
    sizes = {f"{module}.weight": terms for module, terms in term_sizes(tmp_path / "adapter").items()}
    assert baked.keys() == merged.keys()
    for name, value in baked.items():
        assert value.dtype == dtype
        # Bit for bit what PEFT computes in float64, rounded once.
        assert torch.equal(value, exact[name].to(dtype)), name
        # PEFT's own merge rounds ΔW first, in float32 after every one of the product's steps.
        terms = original[name].double().abs() + sizes.get(name, 0.0)
        assert bool(((value.double() - merged[name].double()).abs() <= ulps * ulp(terms.to(dtype))).all()), name
        assert torch.equal(value, original[name]) == (name not in sizes)


def term_sizes(adapter: Path) -> dict[str, Tensor]:
    """Σ |B||A| of each module: the size of the terms that a product in low precision rounds."""
    opened = Adapter.open(adapter)
    updates = {module: opened.load(module, torch.float64) for module in opened.modules}
    return {module: update.B.abs() @ update.A.abs() for module, update in updates.items()}


def test_shards_and_untouched_tensors_stay(tmp_path: Path) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base", shard="10KB")
    (base / "tokenizer_config.json").write_text("{}")
    (base / "pytorch_model.bin").write_bytes(b"other weights")
    save_lora(tiny_qwen(), tmp_path / "adapter", 1, r=2, lora_alpha=4, target_modules=["q_proj"])
    report = apply_adapter(base, tmp_path / "adapter", tmp_path / "baked")

    index = json.loads((base / "model.safetensors.index.json").read_text())
    new_index = json.loads((tmp_path / "baked" / "model.safetensors.index.json").read_text())
    assert len(report.shards) > 2
    assert new_index["weight_map"] == index["weight_map"]
    assert new_index["metadata"]["total_size"] == index["metadata"]["total_size"]
    old, new = tensors(base), tensors(tmp_path / "baked")
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)
    }
    assert (tmp_path / "baked" / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert (tmp_path / "baked" / "tokenizer_config.json").is_file()
    assert not (tmp_path / "baked" / "pytorch_model.bin").exists()
    assert (tmp_path / "baked" / REPORT_NAME).read_text().strip() == report.model_dump_json(indent=1)


def test_conv1d_and_square_weights(tmp_path: Path) -> None:
    base = save_base(tiny_gpt2(), tmp_path / "base")
    # c_proj of the attention is square: only the layer's class tells its orientation.
    updates = save_lora(tiny_gpt2(), tmp_path / "adapter", 2, r=3, lora_alpha=6, target_modules=["c_attn", "c_proj"])
    apply_adapter(base, tmp_path / "adapter", tmp_path / "baked", scale=0.5)
    old, new = load(base).state_dict(), load(tmp_path / "baked").state_dict()
    for module, update in updates.items():
        torch.testing.assert_close(new[f"{module}.weight"] - old[f"{module}.weight"], update / 2, atol=1e-5, rtol=0)


def test_checkpoint_without_the_models_prefix(tmp_path: Path) -> None:
    base = save_base(tiny_gpt2(), tmp_path / "base")
    weights = {name.removeprefix("transformer."): value for name, value in tensors(base).items()}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    save_lora(tiny_gpt2(), tmp_path / "adapter", 2, r=3, lora_alpha=6, target_modules=["c_attn", "wte"])
    apply_adapter(base, tmp_path / "adapter", tmp_path / "baked")
    with_adapter = PeftModel.from_pretrained(load(base), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(load(tmp_path / "baked")), logits(with_adapter), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("targets", [["embed_tokens"], ["lm_head"], ["embed_tokens", "lm_head", "q_proj"]])
def test_tied_weights_are_untied(tmp_path: Path, targets: list[str]) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base", shard="10KB")
    save_lora(tiny_qwen(), tmp_path / "adapter", 3, r=3, lora_alpha=6, target_modules=targets)
    report = apply_adapter(base, tmp_path / "adapter", tmp_path / "baked")
    assert report.untied
    assert json.loads((tmp_path / "baked" / "config.json").read_text())["tie_word_embeddings"] is False
    with_adapter = PeftModel.from_pretrained(load(base), tmp_path / "adapter").eval()
    baked = load(tmp_path / "baked")
    torch.testing.assert_close(logits(baked), logits(with_adapter), atol=2e-4, rtol=1e-4)
    assert not torch.equal(baked.lm_head.weight, baked.model.embed_tokens.weight)


def test_rounding_loss_follows_its_definition(tmp_path: Path) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base", torch.bfloat16)
    updates = save_lora(tiny_qwen(), tmp_path / "adapter", 4, size=0.02, r=4, lora_alpha=4, target_modules=ATTENTION)
    report = apply_adapter(base, tmp_path / "adapter", tmp_path / "baked")
    old, new = tensors(base), tensors(tmp_path / "baked")
    errors = energies = 0.0
    for entry in report.modules:
        weight, baked = old[entry.tensor].double(), new[entry.tensor].double()
        update = as_weight(updates[entry.module], nn.Linear(1, 1)).double()
        error, energy = (baked - weight - update).square().sum(), update.square().sum()
        loss = entry.losses["bfloat16"]
        assert loss.relative_error == pytest.approx(float((error / energy).sqrt()), rel=1e-4)
        assert loss.vanished == pytest.approx(float((baked == weight).double().mean()))
        errors, energies = errors + float(error), energies + float(energy)
    assert report.loss.relative_error == pytest.approx((errors / energies) ** 0.5, rel=1e-4)
    assert 0.05 < report.loss.relative_error < 1
    assert any("rounding" in warning for warning in report.warnings)
    # float32 has 2^16 times finer steps than bfloat16.
    assert report.losses["float32"].relative_error < report.loss.relative_error / 2**14


def test_wider_type_saves_what_bfloat16_loses(tmp_path: Path) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base", torch.bfloat16)
    save_lora(tiny_qwen(), tmp_path / "adapter", 4, size=1e-4, r=4, lora_alpha=4, target_modules=ATTENTION)
    narrow = apply_adapter(base, tmp_path / "adapter", tmp_path / "narrow")
    wide = apply_adapter(base, tmp_path / "adapter", tmp_path / "wide", dtype="float32")
    assert narrow.loss.vanished > 0.99
    assert narrow.losses["float32"] == wide.loss
    assert {value.dtype for value in tensors(tmp_path / "wide").values()} == {torch.float32}
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["dtype"] == "float32"
    assert next(load(tmp_path / "wide").parameters()).dtype == torch.float32


def test_result_does_not_depend_on_the_block_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_base(tiny_gpt2(), tmp_path / "base")
    save_lora(tiny_gpt2(), tmp_path / "adapter", 5, r=3, lora_alpha=6, target_modules=["c_attn"])
    apply_adapter(base, tmp_path / "adapter", tmp_path / "whole")
    monkeypatch.setattr(checkpoint, "BLOCK_ENTRIES", 100)
    monkeypatch.setattr(checkpoint, "_BLOCK_BYTES", 100)
    done: list[tuple[int, int]] = []
    apply_adapter(
        base, tmp_path / "adapter", tmp_path / "blocks", progress=lambda now, total: done.append((now, total))
    )
    assert (tmp_path / "blocks" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    assert len(done) > 100
    assert done[-1][0] == done[-1][1]


def test_zero_update_gives_the_base(tmp_path: Path) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base")
    save_lora(tiny_qwen(), tmp_path / "adapter", 5, size=0.0, r=3, lora_alpha=6, target_modules=["q_proj"])
    report = apply_adapter(base, tmp_path / "adapter", tmp_path / "baked")
    assert report.loss.relative_error is None
    assert (tmp_path / "baked" / "model.safetensors").read_bytes()[-1000:] == (base / "model.safetensors").read_bytes()[
        -1000:
    ]
    assert any("zero" in warning for warning in report.warnings)


def test_refusals_name_the_fault_and_leave_nothing(tmp_path: Path) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base")
    lora = tmp_path / "adapter"
    save_lora(tiny_qwen(), lora, 5, r=3, lora_alpha=6, target_modules=["q_proj"])
    out = tmp_path / "out"

    def refused(pattern: str, *, model: Path = base, adapter: Path = lora, scale: float = 1.0) -> None:
        with pytest.raises(PrefdeltaError, match=pattern):
            apply_adapter(model, adapter, out, scale=scale)
        assert not out.exists()
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]

    refused("no model folder", model=tmp_path / "absent")
    refused("finite", scale=float("nan"))
    refused("c_attn'.*this base model lacks", adapter=_gpt2_adapter(tmp_path))
    refused("q_proj' as 32x32", model=_wider(tmp_path / "wide"))
    refused("classifier", adapter=_with_head(lora, tmp_path / "head"))
    refused("quantised", model=_configured(base, tmp_path / "quantised", quantization_config={"bits": 4}))
    refused("neither model.safetensors", model=_without_weights(base, tmp_path / "bin"))
    refused("no name of a shard", model=_indexed(base, tmp_path / "escape", "../base/model.safetensors"))
    refused("missing or damaged", model=_indexed(base, tmp_path / "gone", "model-00002.safetensors"))
    with pytest.raises(PrefdeltaError, match="would replace"):
        apply_adapter(base, lora, base, overwrite=True)


def test_overflow_is_refused(tmp_path: Path) -> None:
    base = save_base(tiny_qwen(), tmp_path / "base", torch.float16)
    save_lora(tiny_qwen(), tmp_path / "adapter", 5, size=300.0, r=3, lora_alpha=6, target_modules=["q_proj"])
    with pytest.raises(PrefdeltaError, match=r"q_proj.*float16 cannot hold"):
        apply_adapter(base, tmp_path / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _gpt2_adapter(folder: Path) -> Path:
    save_lora(tiny_gpt2(), folder / "gpt2", 5, r=3, lora_alpha=6, target_modules=["c_attn"])
    return folder / "gpt2"


def _wider(folder: Path) -> Path:
    return save_base(tiny_model(hidden=48), folder)


def _with_head(adapter: Path, folder: Path) -> Path:
    shutil.copytree(adapter, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    weights["base_model.model.classifier.weight"] = torch.zeros(2, 32)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def _configured(base: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def _without_weights(base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def _indexed(base: Path, folder: Path, shard: str) -> Path:
    shutil.copytree(base, folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))
    return folder
