"""The loop that learns coefficients: one task's graph in memory at a time, resumable at any step."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prefdelta.errors import PrefdeltaError
from prefdelta.learning.data import Batch
from prefdelta.learning.journal import Journal
from prefdelta.learning.scalarise import check_preference, gradient_weights
from prefdelta.learning.tasks import Task
from prefdelta.recipe.learning import Learning

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class Step:
    """One step as it went: Ψ, and every task's objective and weight in the gradient."""

    total: float
    values: Tensor
    weights: Tensor


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
    observe: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Learn φ by AdamW on Ψ, from its value in ``coefficients``, which is changed in place and returned.

    Every step takes one batch of every task. ∇Ψ = Σᵢ (∂Ψ/∂fᵢ) ∇fᵢ, so each task is run forward and backward by itself
    and only its gradient, a vector as long as φ, is kept until all objectives are known: memory holds one task's graph,
    and nothing is computed twice.

    Writes ``learning.jsonl`` (one line per step) into ``folder``; checkpoints lie in ``folder/checkpoints`` until the
    end. Called again with the same ``key`` after a kill, it goes on from the last one and ends with the same φ.

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
        observe: called after every step with its number and φ; a resumed run calls it for steps again that came after
            the last checkpoint.

    Raises:
        PrefdeltaError: two tasks share a name, the preference does not fit, or an objective is not finite.
    """
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise PrefdeltaError(f"two tasks share a name: {', '.join(sorted(names))}.")
    preference = check_preference(settings.preference, len(tasks))
    fixed = torch.tensor([anchors[name] for name in names], dtype=torch.float64)
    coefficients.requires_grad_()
    optimiser = torch.optim.AdamW(
        [coefficients], lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=False
    )
    journal = Journal(folder, key, coefficients, optimiser)
    done = journal.resume()
    streams = [task.data.stream(data_seed(seed, task.name), done) for task in tasks]
    for number in range(done + 1, settings.steps + 1):
        values, gradients = _gradients(branched, coefficients, tasks, streams, number)
        total, weights = gradient_weights(values, fixed, preference, how=settings.scalarisation, alpha=settings.alpha)
        coefficients.grad = sum(
            (weight * gradient for weight, gradient in zip(weights.tolist(), gradients, strict=True)),
            torch.zeros_like(coefficients),
        )
        optimiser.step()
        journal.add(number, names, Step(total, values, weights))
        if observe is not None:
            observe(number, coefficients.detach())
        if number % settings.checkpoint_steps == 0 and number < settings.steps:
            journal.checkpoint(number)
        if progress is not None:
            progress(number, settings.steps)
    shutil.rmtree(journal.checkpoints, ignore_errors=True)
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
