"""A small resumable training loop: AdamW on given tensors, for whatever computes their gradients step by step.

The heads, backbones and adapters of suites, learned merge coefficients, the embedded models and deltas that are trained
together (:mod:`prefdelta.training.together`) use it. The training of a single delta has its own loop, on
``transformers.Trainer``: :mod:`prefdelta.training.trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.training.checkpoints import Checkpoints, append_line

Progress = Callable[[int, int], None]  # steps done, steps in all
Line = Mapping[str, Any]


@dataclass(frozen=True)
class AdamWOptions:
    """AdamW's settings.

    Attributes:
        steps: how many; after them the parameters stay as they are.
        learning_rate: its largest value.
        weight_decay: decoupled from the learning rate's schedule as in AdamW.
        schedule: step, from 0 -> the share of ``learning_rate`` that this step has.
        max_grad_norm: the norm to which gradients are clipped, if to any.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    schedule: Callable[[int], float] = lambda step: 1.0
    max_grad_norm: float | None = None


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with an AdamW of their own."""

    parameters: Sequence[Tensor]
    settings: AdamWOptions


@dataclass(frozen=True)
class Kept:
    """What a training leaves on disk while it runs, to be continued after a kill.

    Attributes:
        checkpoints: every ``every`` steps one; they are removed at the end.
        every: steps from one checkpoint to the next.
        log: a JSON Lines file, one line per step; it stays.
    """

    checkpoints: Checkpoints
    every: int
    log: Path


def optimise(
    parameters: Sequence[Tensor],
    gradients_at: Callable[[int], Line],
    settings: AdamWOptions,
    *,
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> None:
    """Change ``parameters`` in place by AdamW and remove the checkpoints in the end; see :func:`optimise_groups`."""
    optimise_groups([ParameterGroup(parameters, settings)], gradients_at, kept=kept, progress=progress)
    if kept is not None:
        kept.checkpoints.remove()


def optimise_groups(
    groups: Sequence[ParameterGroup],
    gradients_at: Callable[[int], Line],
    *,
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> None:
    """Change the parameters of several groups in place, in steps that all take at once until a group has had its own.

    Args:
        groups: what is trained, in an order that never changes.
        gradients_at: called with the number of the step, from 0; it leaves gradients in ``.grad``, none in those of a
            group that has ended, and returns what to log. A training that is continued calls it for the steps that are
            left: it must depend on the number and the parameters alone.
        kept: makes the training resumable; the caller removes its checkpoints when the result is safe.
        progress: called after every step with the steps done and their number.
    """
    parameters = [parameter for group in groups for parameter in group.parameters]
    steps = max(group.settings.steps for group in groups)
    optimiser = torch.optim.AdamW(
        {"params": list(group.parameters), "weight_decay": group.settings.weight_decay} for group in groups
    )
    done = 0
    if kept is not None:
        kept.log.parent.mkdir(parents=True, exist_ok=True)
        done = kept.checkpoints.restore(parameters, optimiser, kept.log)
    for step in range(done, steps):
        optimiser.zero_grad(set_to_none=True)
        line = gradients_at(step)
        for group, of_group in zip(groups, optimiser.param_groups, strict=True):
            own = group.settings
            if step < own.steps:
                of_group["lr"] = own.learning_rate * own.schedule(step)
                if own.max_grad_norm is not None:
                    torch.nn.utils.clip_grad_norm_(group.parameters, own.max_grad_norm)
        optimiser.step()
        if kept is not None:
            append_line(kept.log, line)
        if progress is not None:
            progress(step + 1, steps)
        if kept is not None and (step + 1) % kept.every == 0 and step + 1 < steps:
            kept.checkpoints.save(step + 1, parameters, optimiser, kept.log)


def gradients_of(loss_at: Callable[[int], Tensor]) -> Callable[[int], dict[str, float]]:
    """Gradients of a scalar loss; it is logged as ``loss``.

    Raises:
        PrefdeltaError: while training, at the step whose loss is not finite.
    """

    def gradients_at(step: int) -> dict[str, float]:
        loss = loss_at(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise PrefdeltaError(f"the loss is not finite at step {step + 1}; lower learning_rate.")
        loss.backward()
        return {"loss": value}

    return gradients_at


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up over ``warmup`` steps, then cosine decay to 0: the share of the learning rate at a step from 0.

    >>> [round(warmup_cosine(step, 6, 2), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
