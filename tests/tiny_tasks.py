"""Tiny models of three kinds with random weights, adapters for them, and tasks to learn merges on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Qwen3Config,
    Qwen3ForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from lora_fixtures import save_lora
from prefdelta.adapters import Adapter
from prefdelta.merging.learned.classify import entropy, head_logits
from prefdelta.merging.learned.data import Rows
from prefdelta.merging.learned.tasks import Task
from tiny import tiny_model

CLASSES = 4


@dataclass(frozen=True)
class Kind:
    """A tiny model, the modules its adapters adapt, one batch of its inputs, and its head's parameter names."""

    model: Callable[[], nn.Module]
    targets: tuple[str, ...]
    rows: Callable[[int, int], list[Any]]
    collate: Callable[[list[Any]], Any]
    head: tuple[str, ...]


def tiny_vit() -> nn.Module:
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=CLASSES,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return ViTForImageClassification(config).eval()


def tiny_classifier() -> nn.Module:
    config = Qwen3Config(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
        initializer_range=0.3,
        num_labels=CLASSES,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return Qwen3ForSequenceClassification(config).eval()


def _images(seed: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, 1, 8, 8, generator=generator))


def _sentences(seed: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(1, 50, (count, 6), generator=generator))


KINDS = {
    "vit": Kind(
        tiny_vit,
        ("q_proj", "v_proj", "fc1"),
        _images,
        lambda rows: {"pixel_values": torch.stack(rows)},
        ("classifier",),
    ),
    "sequence": Kind(
        tiny_classifier,
        ("q_proj", "o_proj", "down_proj"),
        _sentences,
        lambda rows: {"input_ids": torch.stack(rows)},
        ("score",),
    ),
    "causal": Kind(
        lambda: tiny_model(5, vocabulary=50),
        ("q_proj", "v_proj", "gate_proj"),
        _sentences,
        lambda rows: {"input_ids": torch.stack(rows)},
        (),
    ),
}


def make_adapters(kind: Kind, folder: Path, *, ranks: Sequence[int] = (2, 3), size: float = 0.2) -> list[Adapter]:
    """Random adapters of unequal ranks, the last of which leaves out the first kind of module."""
    adapters = []
    for index, rank in enumerate(ranks):
        targets = kind.targets if index < len(ranks) - 1 else kind.targets[1:]
        save_lora(
            kind.model(),
            folder / f"task{index}",
            seed=index + 1,
            size=size,
            r=rank,
            lora_alpha=2 * rank + 1,
            target_modules=list(targets),
        )
        adapters.append(Adapter.open(folder / f"task{index}"))
    return adapters


def make_head(kind: Kind, seed: int, classes: int = CLASSES) -> dict[str, Tensor]:
    """A random head for the model's own head modules."""
    generator = torch.Generator().manual_seed(100 + seed)
    own = {name: value for name, value in kind.model().state_dict().items() if name.startswith(kind.head)}
    return {name: torch.randn(classes, *value.shape[1:], generator=generator) for name, value in own.items()}


def make_tasks(kind: Kind, count: int, *, rows: int = 12, batch_size: int = 4) -> list[Task]:
    """Entropy tasks, each with its own head, the second with a class less."""
    tasks = []
    for index in range(count):
        logits = head_logits(make_head(kind, index), classes=(0, 2, 3) if index == 1 else None)
        data = Rows(kind.rows(50 + index, rows), kind.collate, batch_size=batch_size)
        tasks.append(Task(f"task{index}", data, entropy(logits), own=index))
    return tasks
