"""How much each direction moves each task: what anisotropy and misalignment are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from prefdelta.adapter import Adapter
from prefdelta.learning.branches import branches
from prefdelta.learning.merged import laid_out
from prefdelta.learning.optimise import data_seed, task_gradient
from prefdelta.learning.tasks import Task


def sensitivities(
    model: nn.Module,
    adapters: Sequence[Adapter],
    tasks: Sequence[Task],
    *,
    method: str,
    coefficients: Mapping[str, Tensor] | None = None,
    steps: int = 1,
    seed: int = 0,
) -> Tensor:
    """J ``(tasks, directions)`` with J_ik = ⟨∇fᵢ(W), Sₖ⟩_F: how fast task i's objective grows with direction k.

    :func:`prefdelta.learning.metrics.anisotropy` is J's condition number. With ∂Ψ/∂f of a preference
    (:func:`prefdelta.learning.scalarise.gradient_weights`), h = (∂Ψ/∂f) J is what
    :func:`prefdelta.learning.metrics.misalignment` compares.

    Args:
        model: the adapters' base.
        adapters: what is merged.
        tasks: one row each.
        method: whose directions: a name of :data:`prefdelta.learning.methods.LEARNED`.
        coefficients: where W is taken, as stored by ``learn``; 0.4 everywhere if left out.
        steps: how many of each task's batches to take the mean over.
        seed: decides which ones, as in ``learn``.

    Raises:
        PrefdeltaError: adapters, model, tasks or coefficients do not fit together.
    """
    parts, layout = laid_out(model, adapters, method)
    start = layout.constant(0.4) if coefficients is None else layout.vector(coefficients)
    vector = start.to(next(iter(parts.values())).left.device).requires_grad_()
    rows = []
    with branches(model, parts, lambda module: layout.of(vector, module)) as branched:
        for task in tasks:
            batches = [batch for step in islice(task.data.stream(data_seed(seed, task.name)), steps) for batch in step]
            rows.append(task_gradient(branched, vector, task, batches)[1])
    return torch.stack(rows).cpu()
