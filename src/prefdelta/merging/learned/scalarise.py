"""Scalarisation of several tasks' objectives: linear and smooth Tchebycheff, weighted by a preference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe.learning import Scalarisation


def check_preference(preference: Sequence[float] | None, tasks: int) -> Tensor:
    """ρ ``(tasks,)``, divided by its sum; equal for all tasks if left out. Float64.

    Raises:
        PrefdeltaError: there is not one weight per task, or a weight is negative or not finite, or all are zero.
    """
    if preference is None:
        return torch.full((tasks,), 1 / tasks, dtype=torch.float64)
    if len(preference) != tasks:
        raise PrefdeltaError(f"the preference has {len(preference)} weights for {tasks} tasks; give one per task.")
    if not all(math.isfinite(weight) and weight >= 0 for weight in preference) or not sum(preference) > 0:
        raise PrefdeltaError(f"a preference is made of finite weights ≥ 0, not all zero, not {list(preference)}.")
    weights = torch.tensor(list(preference), dtype=torch.float64)
    return weights / weights.sum()


def scalarise(values: Tensor, anchors: Tensor, preference: Tensor, *, how: Scalarisation, alpha: float = 1.0) -> Tensor:
    """Ψ, to be made small.

    - ``linear``: Σᵢ ρᵢ (fᵢ - zᵢ).
    - ``smooth-tchebycheff``: α log Σᵢ exp(ρᵢ (fᵢ - zᵢ) / α), as in the published code. A task whose objective is
      below its anchor is pushed further down.
    - ``smooth-tchebycheff-absolute``: α log Σᵢ exp(ρᵢ |fᵢ - zᵢ| / α), as in the paper. A task below its anchor is
      pulled back up to it.

    Both smooth forms tend to the largest ρᵢ (fᵢ - zᵢ) as α → 0 and to their mean, up to a constant, as α → ∞.

    Args:
        values: f ``(tasks,)``.
        anchors: z ``(tasks,)``: the objective of each task's own adapter.
        preference: ρ ``(tasks,)``.
        how: which of the three.
        alpha: α > 0, the temperature.

    Source: arXiv 2603.26299; smooth Tchebycheff scalarisation: arXiv 2402.19078.
    """
    excess = values - anchors
    if how == "linear":
        return (preference * excess).sum()
    if how == "smooth-tchebycheff-absolute":
        excess = excess.abs()
    return alpha * torch.logsumexp(preference * excess / alpha, dim=0)


def gradient_weights(
    values: Tensor, anchors: Tensor, preference: Tensor, *, how: Scalarisation, alpha: float = 1.0
) -> tuple[float, Tensor]:
    """Ψ and ∂Ψ/∂fᵢ ``(tasks,)``: with them ∇Ψ is a weighted sum of the tasks' own gradients."""
    leaf = values.detach().clone().requires_grad_()
    total = scalarise(leaf, anchors, preference, how=how, alpha=alpha)
    (weights,) = torch.autograd.grad(total, leaf)
    return float(total.detach()), weights
