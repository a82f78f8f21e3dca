"""One training loop for all that a suite trains: resumable after a kill, and the same numbers either way."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.identity import seed_from
from prefdelta.recipe.suite import Optimisation

Progress = Callable[[int, int], None]
_CHECKPOINT = "checkpoint.pt"


def optimise(
    parameters: Sequence[nn.Parameter],
    loss_at: Callable[[int], Tensor],
    settings: Optimisation,
    *,
    folder: Path,
    seed: int,
    progress: Progress | None = None,
) -> list[float]:
    """Minimise with AdamW under linear warm-up and cosine decay; returns the loss of every step.

    A checkpoint lies in ``folder`` while it runs. Every step's randomness comes from its own seed, so that a run
    that was killed and continued ends where an undisturbed one ends.

    Args:
        parameters: what is trained, in an order that never changes.
        loss_at: the loss of a step; it may draw from torch's global generator, which is seeded before each call.
        settings: steps, learning rate and so on.
        folder: where the checkpoint is kept; it is removed at the end.
        seed: of all randomness.
        progress: called after every step with the steps done and their number.

    Raises:
        PrefdeltaError: a loss is not finite.
    """
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    checkpoint = folder / _CHECKPOINT
    losses = _restore(checkpoint, parameters, optimizer)
    with torch.random.fork_rng():
        for step in range(len(losses), settings.steps):
            torch.manual_seed(seed_from(seed, step))
            rate = settings.learning_rate * _share(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            loss = loss_at(step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            optimizer.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise PrefdeltaError(f"the loss is not finite at step {step + 1}; lower learning_rate.")
            if (step + 1) % settings.checkpoint_steps == 0 and step + 1 < settings.steps:
                _save(checkpoint, parameters, optimizer, losses)
            if progress:
                progress(step + 1, settings.steps)
    checkpoint.unlink(missing_ok=True)
    return losses


def _share(step: int, settings: Optimisation) -> float:
    warmup = max(1, round(settings.warmup_ratio * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))


def _save(
    path: Path, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, losses: Sequence[float]
) -> None:
    temporary = path.with_suffix(".tmp")
    state = {
        "parameters": [parameter.detach() for parameter in parameters],
        "optimizer": optimizer.state_dict(),
        "losses": list(losses),
    }
    torch.save(state, temporary)
    os.replace(temporary, path)


def _restore(path: Path, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> list[float]:
    if not path.is_file():
        return []
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for parameter, saved in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(state["optimizer"])
    return list(state["losses"])
