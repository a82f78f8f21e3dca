"""Two real deltas of the embedded student, trained for a few steps, and a random one that can only harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prefdelta import micro
from prefdelta.adapters import Adapter, write_adapter
from prefdelta.core.models import LoadedModel, load
from prefdelta.core.records import Sample
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import Request
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging.tuning import tune_adapters
from prefdelta.merging.tuning.record import TuningRecord
from prefdelta.pairs.pairing import make_pairs
from prefdelta.recipe import Filters, Lora, ModelRef, Sampling, Training
from prefdelta.training.train import train_delta

SAMPLING = Sampling(temperature=1.0, max_new_tokens=40, batch_size=64)
TRAINING = Training(
    beta=0.5,
    learning_rate=1e-2,
    batch_size=16,
    micro_batch_size=16,
    max_length=128,
    checkpoint_steps=100,
    lora=Lora(r=4, alpha=8),
)


@pytest.fixture
def student() -> LoadedModel:
    return load(ModelRef(path="micro:student"))


@pytest.fixture(scope="session")
def deltas(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of ``ash``, ``elm`` and ``noise``."""
    root = tmp_path_factory.mktemp("deltas")
    items = micro.items("reasoning", split="train", count=128)
    for name in ("ash", "elm"):
        chosen, rejected = (answers(f"{name}-{size}") for size in ("weak", "weaker"))
        pairs, _ = make_pairs(items, chosen, rejected, Filters())
        train_delta(ModelRef(path="micro:student"), pairs, TRAINING, seed=0, init_seed=0, folder=root / name)
    write_noise(root / "noise", like=root / "ash")
    return [root / name for name in ("ash", "elm", "noise")]


@pytest.fixture
def search() -> Callable[..., TuningRecord]:
    """A search on a few questions, whose adapters and space are to be given; what is given counts."""
    usual = {"base": ModelRef(path="micro:student"), "items": ["micro:chain", "micro:audit"], "count": 24}

    def call(output: Path, **given: Any) -> TuningRecord:
        return tune_adapters(output=output, **{**usual, "sampling": SAMPLING, **given})

    return call


def answers(model: str) -> list[Sample]:
    items = micro.items("reasoning", split="train", count=128)
    sampler = TransformersSampler(load(ModelRef(path=f"micro:{model}")), SAMPLING)
    return sampler.sample([Request(item, seed) for seed, item in enumerate(items)])


def write_noise(folder: Path, *, like: Path) -> None:
    model = Adapter.open(like)
    generator = torch.Generator().manual_seed(0)

    def noise(shape: tuple[int, int]) -> LowRank:
        rows, columns = shape
        return LowRank(torch.randn(rows, 2, generator=generator) * 0.1, torch.randn(2, columns, generator=generator))

    updates = [(module, noise(model.shape(module))) for module in model.modules]
    write_adapter(folder, updates, like=model.info)
