"""Trainings in a test, and what they leave in their folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from prefdelta.core.records import Example
from prefdelta.recipe import ModelRef, Training
from prefdelta.training import TrainingReport, train_delta


class Stopped(Exception):
    """What :func:`stop` ends a training with."""


def stop(done: int, total: int) -> None:
    """A training's progress that ends it after its third step."""
    if done == 3:
        raise Stopped


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def flat(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(weights(folder).items())])


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def train_here(
    student: ModelRef,
    examples: Sequence[Example],
    training: Training,
    folder: Path,
    *,
    seed: int = 3,
    init_seed: int = 5,
    **more: Any,
) -> TrainingReport:
    return train_delta(student, examples, training, seed=seed, init_seed=init_seed, folder=folder, **more)
