"""Random updates, and LoRA adapters that PEFT itself saved over tiny models."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from prefdelta.linalg.lowrank import LowRank
from tiny import tiny_model

THREE_MERGED = [
    ("average", (1.0, 1.0, 1.0), 2.7),
    ("average", (1.0, 0.3, 2.0), 1.0),
    ("gam", (1.0, 1.0, 1.0), 0.7),
    ("ties", (1.0, 1.0, 1.0), "projection"),
    ("cat", (1.0, -0.5, 1.0), "norm-matched"),
]
"""Ways to merge three adapters: method, weights, scale."""


def random_update(seed: int, shape: tuple[int, int], rank: int, size: float = 1.0) -> LowRank:
    """A Gaussian update of the given rank in float64."""
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(shape[0], rank, generator=generator, dtype=torch.float64)
    a = torch.randn(rank, shape[1], generator=generator, dtype=torch.float64)
    return LowRank(b * size, a)


def random_orthogonal(seed: int, size: int) -> Tensor:
    return torch.linalg.qr(
        torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ).Q


def regauged(update: LowRank, seed: int) -> LowRank:
    """The same ΔW from other factors: B G and G⁻¹ A with a random, well-conditioned G."""
    gauge = random_orthogonal(seed, update.rank) * torch.linspace(0.5, 2.0, update.rank, dtype=torch.float64)
    return LowRank(update.B @ gauge, torch.linalg.solve(gauge, update.A))


def tiny_gpt2(seed: int = 0) -> GPT2LMHeadModel:
    """Two layers of GPT-2, whose attention and MLP are Conv1D layers."""
    torch.manual_seed(seed)  # transformers initialises from the global generator only
    config = GPT2Config(
        vocab_size=61,
        n_positions=32,
        n_embd=24,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        tie_word_embeddings=False,  # a LoRA on the embedding does not act on the output layer
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def tiny_qwen(seed: int = 0) -> nn.Module:
    return tiny_model(seed).eval()


def save_lora(base: nn.Module, folder: Path, seed: int, *, size: float = 0.3, **config: Any) -> dict[str, Tensor]:
    """Save a random LoRA over a copy of ``base`` with PEFT; returns PEFT's own dense update of each module."""
    model = get_peft_model(copy.deepcopy(base), LoraConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    # The card that PEFT writes beside takes it as long as all the rest.
    model.create_or_update_model_card = lambda folder: None  # type: ignore[method-assign]
    model.save_pretrained(folder)
    return dense_updates(model)


def write_lora(folder: Path, base: nn.Module, *, rank: int = 3, size: float = 0.3, seed: int = 0) -> Path:
    """A random LoRA on all linear layers of ``base``."""
    config = {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    save_lora(base, folder, seed, size=size, **config)
    return folder


def dense_updates(model: PeftModel) -> dict[str, Tensor]:
    """PEFT's dense update of each module, shaped as the module's weight is."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def as_weight(update: Tensor, module: nn.Module) -> Tensor:
    """B A shaped as the weight of its module: Conv1D and embeddings store the transpose."""
    return update.T if isinstance(module, Conv1D | nn.Embedding) else update


def with_updates(base: nn.Module, updates: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``base`` with dense updates added to its weights."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, update in updates.items():
            model.get_submodule(name).weight += update.to(torch.float32)
    return model


def logits(model: nn.Module) -> Tensor:
    tokens = torch.arange(2, 26).reshape(2, 12)
    with torch.no_grad():
        return model(tokens).logits
