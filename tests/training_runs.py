"""Trainings in a test: preference pairs of random answers with a search in them, and what is left in a folder."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from prefdelta.core.records import Example, Pair, Sample, Span, Triple
from prefdelta.recipe import Lora, ModelRef, Training
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


def settings(**changes: object) -> Training:
    """A short training with a visible effect."""
    lora = {"r": 4, "alpha": 8.0, **changes.pop("lora", {})}  # type: ignore[dict-item]
    usual = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "warmup_ratio": 0.0, "checkpoint_steps": 2}
    return Training(**{**usual, **changes}, lora=Lora(**lora))  # type: ignore[arg-type]


def make_pairs(count: int, seed: int = 0, *, search: bool = True) -> list[Pair]:
    draw = random.Random(seed)
    return [
        Pair(
            id=str(number),
            task="words",
            prompt=({"role": "user", "content": f"{number} {_word(draw)}?"},),
            chosen=_sample(number, draw, search),
            rejected=_sample(number, draw, search),
        )
        for number in range(count)
    ]


def make_triples(count: int, seed: int = 0) -> list[Triple]:
    sources, pairs = make_pairs(count, seed + 1), make_pairs(count, seed)
    return [
        Triple(pair.id, pair.task, pair.prompt, source.chosen, pair.chosen, pair.rejected)
        for source, pair in zip(sources, pairs, strict=True)
    ]


def _sample(number: int, draw: random.Random, search: bool) -> Sample:
    asked = (Span(f"<search>{_word(draw)}</search>"), Span(f"<information>{_word(draw)}</information>", "environment"))
    finish = "stop" if draw.random() < 0.8 else "length"
    answer = Span(f"<answer>{_word(draw)}</answer>")
    return Sample(str(number), (*asked, answer) if search else (answer,), finish, 9)  # type: ignore[arg-type]


def _word(draw: random.Random) -> str:
    return "".join(draw.choice("abcdefgh ") for _ in range(draw.randint(1, 9)))
