"""The loop that learns coefficients: one task's graph in memory at a time, resumable at any step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.learned.data import Batch
from prefdelta.merging.learned.report import LOG
from prefdelta.merging.learned.scalarise import check_preference, gradient_weights
from prefdelta.merging.learned.tasks import Task
from prefdelta.recipe.learning import Learning
from prefdelta.training.checkpoints import Checkpoints
from prefdelta.training.loop import AdamWOptions, Kept, Progress
from prefdelta.training.loop import optimise as minimise

CHECKPOINTS = "checkpoints"


def optimise(
    branched: nn.Module,
    coefficients: Tensor,
    tasks: Sequence[Task],
    anchors: Mapping[str, float],
    settings: Learning,
    *,
    seed: int,
    folder: Path,
    key: str,
    progress: Progress | None = None,
) -> Tensor:
    """Learn φ by AdamW on Ψ, from its value in ``coefficients``, which is changed in place and returned.

    Every step takes one batch of every task. ∇Ψ = Σᵢ (∂Ψ/∂fᵢ) ∇fᵢ, so each task is run forward and backward by itself
    and only its gradient, a vector as long as φ, is kept until all objectives are known: memory holds one task's graph,
    and nothing is computed twice.

    Writes ``learning.jsonl`` (one line per step) into ``folder``; checkpoints lie in ``folder/checkpoints`` until the
    end. Called again with the same ``key`` after a kill, it resumes from the last one and ends with the same φ.

    Args:
        branched: the model with branches that read ``coefficients``.
        coefficients: φ ``(K,)``.
        tasks: one preference weight each.
        anchors: zᵢ by task.
        settings: steps, optimiser, scalarisation.
        seed: decides the order of the data, with the task's name.
        folder: where checkpoints and the log go.
        key: says what is being learned; a checkpoint with another key is removed.
        progress: called after every step.

    Raises:
        PrefdeltaError: two tasks share a name, the preference does not fit, or an objective is not finite.
    """
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise PrefdeltaError(f"two tasks share a name: {', '.join(sorted(names))}.")
    preference = check_preference(settings.preference, len(tasks))
    fixed = torch.tensor([anchors[name] for name in names], dtype=torch.float64)
    coefficients.requires_grad_()
    streams: list[Iterator[list[Batch]]] = []

    def gradients_at(step: int) -> dict[str, Any]:
        if not streams:
            streams.extend(task.data.stream(data_seed(seed, task.name), step) for task in tasks)
        values, gradients = _gradients(branched, coefficients, tasks, streams, step + 1)
        total, weights = gradient_weights(values, fixed, preference, how=settings.scalarisation, alpha=settings.alpha)
        coefficients.grad = sum(
            (weight * gradient for weight, gradient in zip(weights.tolist(), gradients, strict=True)),
            torch.zeros_like(coefficients),
        )
        return {
            "step": step + 1,
            "total": total,
            "objectives": dict(zip(names, values.tolist(), strict=True)),
            "weights": dict(zip(names, weights.tolist(), strict=True)),
        }

    minimise(
        [coefficients],
        gradients_at,
        AdamWOptions(settings.steps, settings.learning_rate, settings.weight_decay),
        kept=Kept(Checkpoints(folder / CHECKPOINTS, key), settings.checkpoint_steps, folder / LOG),
        progress=progress,
    )
    return coefficients.detach()


def task_gradient(
    branched: nn.Module, coefficients: Tensor, task: Task, batches: Sequence[Batch]
) -> tuple[Tensor, Tensor]:
    """A task's objective f over some micro-batches, and ∂f/∂φ ``(K,)``: ⟨∇f, Sₖ⟩ for every direction Sₖ.

    Raises:
        PrefdeltaError: the objective does not depend on the coefficients.
    """
    total, gradient, count = torch.zeros((), dtype=torch.float64), torch.zeros_like(coefficients), 0
    for batch in batches:
        values = task.objective(branched, batch)
        if not values.requires_grad:
            raise PrefdeltaError(f"the objective of task {task.name!r} does not depend on the coefficients.")
        part = values.sum()
        gradient += torch.autograd.grad(part, coefficients)[0]
        total += part.detach().double().cpu()
        count += values.numel()
    return total / count, gradient / count


def data_seed(seed: int, task: str) -> int:
    """The seed of a task's data: it depends on the task's name, not on its place among the others."""
    return int.from_bytes(hashlib.sha256(f"{seed} {task}".encode()).digest()[:7], "big")


def _gradients(
    branched: nn.Module,
    coefficients: Tensor,
    tasks: Sequence[Task],
    streams: Sequence[Iterator[list[Batch]]],
    number: int,
) -> tuple[Tensor, list[Tensor]]:
    values, gradients = [], []
    for task, stream in zip(tasks, streams, strict=True):
        value, gradient = task_gradient(branched, coefficients, task, next(stream))
        if not torch.isfinite(value):
            raise PrefdeltaError(
                f"the objective of task {task.name!r} is {float(value)} at step {number}; lower learning_rate."
            )
        values.append(value)
        gradients.append(gradient)
    return torch.stack(values), gradients
