"""Branches on models of several make, against PEFT's own layers."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel
from torch import nn

from lora_fixtures import logits, random_update, save_lora, tiny_gpt2, tiny_qwen
from prefdelta.adapters import Adapter, MemoryAdapter
from prefdelta.adapters.applied import adapted
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.merging.learned.branches import branches, on_module_device
from prefdelta.merging.learned.directions import whole_updates
from prefdelta.merging.registry import Options


@pytest.mark.parametrize(
    ("make", "targets"),
    [
        (tiny_gpt2, ["c_attn", "c_fc", "wte"]),
        (tiny_qwen, ["q_proj", "down_proj", "gate_proj"]),
    ],
)
def test_an_adapter_as_peft_puts_it_on(make, targets, tmp_path):
    base = make()
    save_lora(base, tmp_path, seed=1, r=3, lora_alpha=5, target_modules=targets, use_rslora=True)
    expected = logits(PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path)).eval())
    plain = logits(base)
    with adapted(base, Adapter.open(tmp_path), fold=False) as model:
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    with adapted(base, Adapter.open(tmp_path), scale=0.0, fold=False) as model:
        assert torch.equal(logits(model), plain)
    assert torch.equal(logits(base), plain)
    assert float((expected - plain).abs().max()) > 0.1


def test_a_merge_in_memory(tmp_path):
    base = tiny_qwen()
    for index in range(2):
        save_lora(base, tmp_path / str(index), seed=index, r=2, target_modules=["q_proj", "v_proj"])
    adapters = [Adapter.open(tmp_path / str(index)) for index in range(2)]
    merged = merge_in_memory(adapters, method="cat")
    assert isinstance(merged, MemoryAdapter)
    with adapted(base, adapters[0], fold=False), adapted(base, adapters[1], fold=False):
        expected = logits(base)
    with adapted(base, merged, fold=False):
        torch.testing.assert_close(logits(base), expected, rtol=1e-4, atol=1e-4)


def test_a_base_in_16_bits_keeps_its_type_and_the_branch_its_precision(tmp_path):
    base = tiny_qwen().to(torch.bfloat16)
    save_lora(tiny_qwen(), tmp_path, seed=1, size=1e-2, r=2, target_modules=["o_proj"])
    module = "model.layers.0.self_attn.o_proj"
    update = Adapter.open(tmp_path).load(module, torch.float64)
    parts = on_module_device(base, module, whole_updates([update], Options()))
    assert parts.left.dtype == torch.float32
    x = torch.randn(4, update.shape[1], generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    target = base.get_submodule(module)
    with torch.no_grad():
        plain = target(x)
        with branches(base, {module: parts}, lambda _: torch.tensor([1.0])):
            found = target(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, (plain + x.float() @ update.dense().T.float()).to(torch.bfloat16))


def test_switches_come_back_whatever_happens():
    base = tiny_qwen().train()
    base.model.embed_tokens.weight.requires_grad_(False)
    base.model.layers[0].eval()
    modes = [module.training for module in base.modules()]
    flags = [parameter.requires_grad for parameter in base.parameters()]

    def interrupted() -> None:
        with branches(base, {}, lambda _: torch.zeros(1)):
            assert not any(module.training for module in base.modules())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [module.training for module in base.modules()] == modes
    assert [parameter.requires_grad for parameter in base.parameters()] == flags
    assert not any(module._forward_hooks for module in base.modules())


def test_modules_that_carry_no_branch():
    model = nn.ModuleDict({"conv": nn.Conv1d(3, 3, 1)})
    with pytest.raises(PrefdeltaError, match="module conv is a Conv1d; only linear layers"):
        on_module_device(model, "conv", whole_updates([random_update(0, (3, 3), 1)], Options()))
