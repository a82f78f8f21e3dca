"""A merge in memory is the written one, bit for bit, and the base stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_fixtures import THREE_MERGED, save_lora, tiny_gpt2
from prefdelta.adapters import Adapter, MemoryAdapter
from prefdelta.adapters.applied import applied
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.merging import merge
from prefdelta.merging.in_memory import merge_in_memory
from tiny import tiny_tokenizer


def logits(model: LoadedModel) -> torch.Tensor:
    ids = torch.arange(3, 23)[None]
    with torch.inference_mode():
        return torch.as_tensor(model.model(input_ids=ids).logits)


@pytest.mark.parametrize(("method", "weights", "scale"), THREE_MERGED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merge_in_memory_is_the_written_one_bit_for_bit(
    deltas: list[Path],
    student: LoadedModel,
    tmp_path: Path,
    method: str,
    weights: tuple[float, ...],
    scale: float,
    dtype,
) -> None:
    """On a float32 base the update is folded into the weights, beside a bfloat16 base it is a branch."""
    student.model.to(dtype)
    held = merge_in_memory([Adapter.open(path) for path in deltas], method=method, weights=weights, scale=scale)
    merge(deltas, tmp_path / "merged", method=method, weights=weights, scale=scale)
    written = Adapter.open(tmp_path / "merged")
    assert held.modules == written.modules
    for module in written.modules:
        ours, theirs = held.load(module), written.load(module)
        assert torch.equal(ours.A, theirs.A)
        assert torch.equal(ours.B, theirs.B)
    plain = logits(student)
    with applied(student, held, 1.0) as model:
        ours = logits(model)
    with applied(student, tmp_path / "merged", 1.0) as model:
        assert torch.equal(ours, logits(model))
    assert not torch.equal(ours, plain)
    assert torch.equal(plain, logits(student))


@pytest.mark.parametrize("factor", [0.3, 1.0, 7.0])
def test_scaling_a_merge_is_merging_at_that_scale(deltas: list[Path], factor: float) -> None:
    opened = [Adapter.open(path) for path in deltas]
    whole = merge_in_memory(opened, method="gam", scale=factor)
    scaled = merge_in_memory(opened, method="gam").scaled(factor)
    for module in whole.modules:
        assert torch.equal(whole.load(module).B, scaled.load(module).B)
        assert torch.equal(whole.load(module).A, scaled.load(module).A)


def test_embeddings_and_layers_that_store_the_transpose(tmp_path: Path) -> None:
    base = tiny_gpt2()
    for seed, name in enumerate("ab"):
        targets = ["wte", "c_attn", "c_proj"]
        save_lora(base, tmp_path / name, seed, r=2 + seed, target_modules=targets, fan_in_fan_out=True)
    folders = [tmp_path / "a", tmp_path / "b"]
    held = merge_in_memory([Adapter.open(folder) for folder in folders], method="average")
    merge(folders, tmp_path / "merged", method="average")
    loaded = LoadedModel(base, tiny_tokenizer(), thinking=False)
    with applied(loaded, held, 1.0) as model:
        ours = logits(model)
    with applied(loaded, tmp_path / "merged", 1.0) as model:
        assert torch.equal(ours, logits(model))


def test_an_update_that_is_zero_everywhere_is_the_base(student: LoadedModel, deltas: list[Path]) -> None:
    adapter = Adapter.open(deltas[0])
    opposite = merge_in_memory([adapter, adapter], method="cat", weights=[1.0, -1.0])
    plain = logits(student)
    with applied(student, opposite, 1.0, fold=False) as model:
        torch.testing.assert_close(logits(model), plain)


def test_what_the_stored_type_cannot_hold_is_refused(deltas: list[Path]) -> None:
    adapter = Adapter.open(deltas[0])
    module = adapter.modules[0]
    held = MemoryAdapter("huge", {module: adapter.load(module).scaled(1e30)}, adapter.info, torch.float16)
    with pytest.raises(PrefdeltaError, match=f"huge: module {module}.*float16"):
        held.load(module)
