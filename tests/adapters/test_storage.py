"""Layers whose factors PEFT does not store as two matrices: convolutions and stacks of experts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from lora_fixtures import logits, random_update, save_lora
from prefdelta.adapters import Adapter, AdapterInfo, MemoryAdapter, write_adapter
from prefdelta.adapters.applied import adapted, applied
from prefdelta.adapters.storage import Storage
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.merging import merge
from prefdelta.merging.baking import apply_adapter
from tiny import tiny_tokenizer

PARAMETERS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
METHODS = ("average", "gam", "svd", "knots-ties", "tsv-m")
EXPERTS = 12


class Convolutions(nn.Module):
    """One convolution of each dimension that PEFT adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(3, 5, 3, padding=1)
        self.two = nn.Conv2d(5, 6, (3, 2), padding=1)
        self.three = nn.Conv3d(1, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        planes = self.two(self.one(x).unsqueeze(-1))
        return self.three(planes[:, None])


def convolutions() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Convolutions().eval(), torch.randn(2, 3, 7)


def mixture() -> nn.Module:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=EXPERTS,
        num_experts_per_tok=2,
    )
    return Qwen3MoeForCausalLM(config).eval()


def save_mixture(folder: Path, seed: int, rank: int, parameters: list[str] | None = None) -> dict[str, Tensor]:
    """Save a random adapter of attention and experts; returns what PEFT adds to every parameter when it merges it."""
    base = mixture()
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["q_proj"], target_parameters=parameters or PARAMETERS
    )
    model = get_peft_model(copy.deepcopy(base), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    merged = model.merge_and_unload().state_dict()
    return {name: merged[name] - value for name, value in base.state_dict().items()}


@pytest.mark.parametrize("method", [method for method in METHODS if method != "knots-ties"])  # it thins one update out
def test_one_adapter_of_convolutions_comes_back(method: str, tmp_path: Path) -> None:
    base, x = convolutions()
    save_lora(base, tmp_path / "a", seed=1, r=2, lora_alpha=6, target_modules=["one", "two", "three"])
    merge([tmp_path / "a"], tmp_path / "m", method=method)
    with torch.no_grad():
        expected = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "a"))(x)
        found = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "m"))(x)
        assert (expected - base(x)).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_average_of_convolutions_is_the_one_of_their_updates(tmp_path: Path) -> None:
    base, x = convolutions()
    updates = [
        save_lora(base, tmp_path / str(seed), seed=seed, r=rank, target_modules=["one", "two", "three"])
        for seed, rank in ((1, 2), (2, 3))
    ]
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "m", method="average", weights=[1, 3])
    reference = copy.deepcopy(base)
    with torch.no_grad():
        for name, module in reference.named_children():
            assert isinstance(module.weight, Tensor)
            module.weight += 0.25 * updates[0][name] + 0.75 * updates[1][name]
        found = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "m"))(x)
        torch.testing.assert_close(found, reference(x), rtol=1e-4, atol=1e-4)


def test_an_embedding_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    info = AdapterInfo(storage={"layer": Storage(embedding=True)})
    write_adapter(tmp_path / "a", [("layer", random_update(0, (4, 9), 2))], like=info)
    base = nn.Module()
    base.add_module("layer", nn.Embedding(12, 4))
    with (
        pytest.raises(PrefdeltaError, match=r"adapts 'layer' as \(4, 9\), but this base model has it as \(4, 12\)"),
        adapted(base, Adapter.open(tmp_path / "a")),
    ):
        pass


def test_a_model_in_training_is_so_again_after_pefts_own_layers(tmp_path: Path) -> None:
    base, x = convolutions()
    save_lora(base, tmp_path, seed=1, r=2, target_modules=["one"])
    base.train()
    with adapted(base, Adapter.open(tmp_path)) as model:
        assert not model.training
        model(x)
    assert all(module.training for module in base.modules())
    assert all(parameter.requires_grad for parameter in base.parameters())


def test_kernels_of_two_sizes_do_not_merge(tmp_path: Path) -> None:
    for name, kernel in (("square", (2, 3)), ("flat", (3, 2))):
        base = nn.Module()
        base.add_module("layer", nn.Conv2d(2, 4, kernel))
        save_lora(base, tmp_path / name, seed=1, r=2, target_modules=["layer"])
    with pytest.raises(PrefdeltaError, match="a convolution of kernel 3x2 over 2 channels in flat but"):
        merge([tmp_path / "square", tmp_path / "flat"], tmp_path / "m", method="average")


def test_every_expert_is_a_module_with_the_update_that_peft_merges(tmp_path: Path) -> None:
    added = save_mixture(tmp_path, seed=1, rank=3)
    adapter = Adapter.open(tmp_path)
    assert len(adapter.modules) == 2 * (2 * EXPERTS + 1)
    assert adapter.info.target_parameters == tuple(sorted(PARAMETERS))
    for number in range(EXPERTS):
        for layer, parameter in (("experts.base_layer", PARAMETERS[0]), ("experts", PARAMETERS[1])):
            module = f"model.layers.1.mlp.{layer}#{number}"
            update = adapter.load(module)
            assert (update.shape, update.rank) == (adapter.shape(module), 3)
            expected = added[f"model.layers.1.{parameter}"][number]
            torch.testing.assert_close(update.dense(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_peft_reads_a_merge_of_mixtures_as_it_is(method: str, tmp_path: Path) -> None:
    for seed, rank in ((1, 2), (2, 3)):
        save_mixture(tmp_path / str(seed), seed, rank)
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "m", method=method, rank="servable")
    merged = Adapter.open(tmp_path / "m")
    model = PeftModel.from_pretrained(mixture(), str(tmp_path / "m")).merge_and_unload().state_dict()
    base = mixture().state_dict()
    for module, parameter in (("experts.base_layer#7", "gate_up_proj"), ("experts#11", "down_proj")):
        name = f"model.layers.0.mlp.experts.{parameter}"
        added = (model[name] - base[name])[int(module.partition("#")[2])]
        found = merged.load(f"model.layers.0.mlp.{module}").dense()
        torch.testing.assert_close(found, added, rtol=1e-4, atol=1e-4)
        assert found.abs().max() > 0


def test_the_average_of_mixtures_is_the_one_of_their_updates(tmp_path: Path) -> None:
    first, second = (save_mixture(tmp_path / str(seed), seed, rank) for seed, rank in ((1, 2), (2, 3)))
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "m", method="average", weights=[1, 3])
    reference = mixture()
    state = reference.state_dict()
    reference.load_state_dict({name: state[name] + 0.25 * first[name] + 0.75 * second[name] for name in state})
    found = logits(PeftModel.from_pretrained(mixture(), str(tmp_path / "m")))
    torch.testing.assert_close(found, logits(reference), rtol=1e-3, atol=1e-3)
    with applied(LoadedModel(mixture(), tiny_tokenizer(), False), tmp_path / "m", 1.0) as loaded:
        torch.testing.assert_close(logits(loaded.model), found)


def test_a_mixture_in_memory_is_the_one_on_disk(tmp_path: Path) -> None:
    save_mixture(tmp_path / "a", seed=1, rank=3)
    adapter = Adapter.open(tmp_path / "a")
    updates = {module: adapter.load(module, torch.float64) for module in adapter.modules}
    write_adapter(tmp_path / "b", updates.items(), like=adapter.info)
    kept = MemoryAdapter("memory", updates, adapter.info, torch.float32).tensors()
    written = load_file(tmp_path / "b" / "adapter_model.safetensors")
    assert kept.keys() == written.keys()
    assert all(torch.equal(kept[name], written[name]) for name in kept)


def test_stacks_that_are_wrapped_differently_do_not_merge(tmp_path: Path) -> None:
    save_mixture(tmp_path / "a", seed=1, rank=2)
    save_mixture(tmp_path / "b", seed=2, rank=2, parameters=PARAMETERS[:1])
    with pytest.raises(PrefdeltaError, match="so both must adapt the same ones"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", method="average")


def test_stacks_are_not_baked(tmp_path: Path) -> None:
    mixture().save_pretrained(tmp_path / "base")
    save_mixture(tmp_path / "a", seed=1, rank=2)
    with pytest.raises(PrefdeltaError, match=r"stacked parameters of model\.layers\.0\.mlp\.experts"):
        apply_adapter(tmp_path / "base", tmp_path / "a", tmp_path / "out")
