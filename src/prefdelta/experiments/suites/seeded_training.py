"""The training loop of a suite's backbones, heads and adapters: AdamW, with a seed of its own for every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from prefdelta.core.records import digest
from prefdelta.experiments.identity import seed_from
from prefdelta.recipe.suite import Optimisation
from prefdelta.training.checkpoints import Checkpoints
from prefdelta.training.loop import AdamWOptions, Kept, Progress, gradients_of, optimise, warmup_cosine

LOG = "losses.jsonl"


def train(
    parameters: Sequence[nn.Parameter],
    loss_at: Callable[[int], Tensor],
    settings: Optimisation,
    *,
    folder: Path,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Minimise with AdamW under linear warm-up and cosine decay; writes ``losses.jsonl``, one line per step.

    Every step's randomness comes from its own seed, so that a run that was killed and continued ends where an
    undisturbed one ends.

    Args:
        parameters: what is trained, in an order that never changes.
        loss_at: the loss of a step; it may draw from torch's global generator, which is seeded before each call.
        settings: steps, learning rate and so on.
        folder: where the log goes, and checkpoints while it runs.
        seed: of all randomness.
        progress: called after every step with the steps done and their number.

    Raises:
        PrefdeltaError: a loss is not finite.
    """

    def seeded(step: int) -> Tensor:
        torch.manual_seed(seed_from(seed, step))
        return loss_at(step)

    warmup = max(1, round(settings.warmup_ratio * settings.steps))
    key = digest([settings.model_dump(), seed])
    with torch.random.fork_rng():
        optimise(
            parameters,
            gradients_of(seeded),
            AdamWOptions(
                steps=settings.steps,
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
                schedule=partial(warmup_cosine, steps=settings.steps, warmup=warmup),
                max_grad_norm=settings.max_grad_norm,
            ),
            kept=Kept(Checkpoints(folder / "checkpoints", key), settings.checkpoint_steps, folder / LOG),
            progress=progress,
        )
