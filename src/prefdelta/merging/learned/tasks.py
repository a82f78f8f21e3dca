"""Tasks of a learned merge: data, objective, and the anchor that a task's own adapter sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prefdelta.adapters import LoraAdapter
from prefdelta.adapters.applied import adapted
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.learned.data import Batch, Rows

Objective = Callable[[nn.Module, Batch], Tensor]
"""(model, batch) → one value per item, ``(n,)``; the task's objective f is their mean, and smaller is better."""


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: its name; no two tasks share one. It decides the order of the data together with the seed.
        data: its batches.
        objective: what is to be made small.
        own: the position of the adapter trained for it, whose objective anchors the task; ``None`` anchors it at 0.
    """

    name: str
    data: Rows
    objective: Objective
    own: int | None = None


def mean_objective(model: nn.Module, task: Task) -> float:
    """The task's objective over all its data, on a model as it is.

    Raises:
        PrefdeltaError: it is not finite, or there is nothing to take a mean of.
    """
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in task.data.once():
            values = task.objective(model, batch)
            total += float(values.double().sum())
            count += values.numel()
    if not count or not torch.isfinite(torch.tensor(total)):
        raise PrefdeltaError(f"the objective of task {task.name!r} is {total} over {count} items; check its data.")
    return total / count


def find_anchors(model: nn.Module, adapters: Sequence[LoraAdapter], tasks: Sequence[Task]) -> dict[str, float]:
    """zᵢ by task: its objective over all its data under its own adapter alone, with the same head and classes.

    Raises:
        PrefdeltaError: an adapter does not fit the model, or a task names one that is not there.
    """
    anchors = {}
    for task in tasks:
        if task.own is None:
            anchors[task.name] = 0.0
            continue
        if not 0 <= task.own < len(adapters):
            raise PrefdeltaError(
                f"task {task.name!r} is anchored by adapter {task.own}, but there are {len(adapters)} (from 0)."
            )
        with adapted(model, adapters[task.own], fold=False, heads=False) as alone:
            anchors[task.name] = mean_objective(alone, task)
    return anchors
