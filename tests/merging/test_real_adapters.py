"""Adapters that other people trained and saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from lora_fixtures import as_weight
from prefdelta.adapters import Adapter
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging import compare, merge

BASIC = ("average", "gam", "gam-orthonormal", "gam-norm-matched")

# The shapes of the real base models; their weights play no part.
BASES: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config()),
    "distilgpt2": lambda: GPT2LMHeadModel(GPT2Config(n_layer=6)),
    "distilbert": lambda: DistilBertForSequenceClassification(DistilBertConfig()),
    "opt-125m": lambda: OPTForCausalLM(OPTConfig()),
    "gemma-3-270m": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            hidden_size=640, num_hidden_layers=18, num_attention_heads=4, num_key_value_heads=1, head_dim=256
        )
    ),
    "tinyllama-1.1b-chat": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=2048,
            intermediate_size=5632,
            num_hidden_layers=22,
            num_attention_heads=32,
            num_key_value_heads=4,
            vocab_size=32000,
        )
    ),
}


def folders(shared_data: Path, family: str) -> list[Path]:
    return sorted(path for path in (shared_data / "adapters" / family).iterdir() if path.is_dir())


@pytest.mark.parametrize("method", ["average", "gam", "gam-orthonormal", "gam-norm-matched"])
@pytest.mark.parametrize("family", BASES)
def test_they_merge_and_peft_loads_the_result(family: str, method: str, shared_data: Path, tmp_path: Path) -> None:
    inputs = folders(shared_data, family)
    report = merge(inputs, tmp_path / "out", method=method, extra_weights="drop")
    assert len(report.adapters) == len(inputs)
    with torch.device("meta"):
        base = BASES[family]()
    # Memory that is reserved and never touched costs nothing.
    model = PeftModel.from_pretrained(base.to_empty(device="cpu"), tmp_path / "out")
    merged = Adapter.open(tmp_path / "out")
    for name in merged.modules[:: max(len(merged.modules) // 4, 1)]:
        layer = model.get_submodule(f"base_model.model.{name}")
        theirs = layer.get_delta_weight("default").detach()
        expected = as_weight(merged.load(name, torch.float64).dense(), layer.get_base_layer())
        torch.testing.assert_close(theirs.double(), expected, rtol=1e-4, atol=1e-6)
    adapted = {
        name.removeprefix("base_model.model.") for name, module in model.named_modules() if hasattr(module, "lora_A")
    }
    assert adapted == set(merged.modules)


@pytest.mark.parametrize("family", ["gpt2", "distilbert"])
def test_their_heads_are_refused_by_default(family: str, shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="fully trained tensors"):
        merge(folders(shared_data, family), tmp_path / "out", method="average")
    assert list(tmp_path.iterdir()) == []


def test_the_untrained_and_the_dominant_ones_are_named(shared_data: Path, tmp_path: Path) -> None:
    report = merge(folders(shared_data, "gpt2"), tmp_path / "out", method="gam", extra_weights="drop")
    text = "\n".join(report.warnings)
    assert "untrained-zero-b: its update is zero everywhere" in text
    assert "emotion-b: its update is" in text
    assert "24 of 36 modules are not adapted by every adapter" in text


def test_an_average_of_three_people_is_a_third_of_each_in_the_dense_sum(shared_data: Path, tmp_path: Path) -> None:
    inputs = folders(shared_data, "tinyllama-1.1b-chat")
    merge(inputs, tmp_path / "out", method="average")
    module = "model.layers.7.self_attn.v_proj"
    dense = sum(Adapter.open(path).load(module, torch.float64).dense() for path in inputs) / 3
    merged = Adapter.open(tmp_path / "out").load(module, torch.float64)
    torch.testing.assert_close(merged.dense(), dense, rtol=1e-5, atol=1e-9)


def test_broken_downloads_are_explained(shared_data: Path, tmp_path: Path) -> None:
    messages = {"lfs_pointer": "Git LFS pointer", "truncated": "is damaged or incomplete"}
    broken = folders(shared_data, "broken")
    assert len(broken) == len(messages)
    for folder in broken:
        message = messages[folder.name.split("__")[0]]
        with pytest.raises(PrefdeltaError, match=message):
            merge([folder], tmp_path / "out", method="average")
    assert list(tmp_path.iterdir()) == []


def test_adapters_of_different_bases_are_refused(shared_data: Path, tmp_path: Path) -> None:
    inputs = [folders(shared_data, "opt-125m")[0], folders(shared_data, "tinyllama-1.1b-chat")[0]]
    with pytest.raises(PrefdeltaError, match="shares no module"):
        merge(inputs, tmp_path / "out", method="average")


def test_three_tasks_by_one_author_lie_almost_orthogonal(shared_data: Path) -> None:
    geometry = compare(folders(shared_data, "tinyllama-1.1b-chat"))
    assert geometry.names == ("emotion", "keywords", "therapist")
    for pair in geometry.pairs:
        assert len(pair.modules) == 44
        assert pair.cosine is not None
        assert 0 < pair.cosine < 0.1
        assert pair.overlap_u is not None
        assert pair.overlap_by_chance_u is not None
        assert pair.overlap_u > 3 * pair.overlap_by_chance_u
