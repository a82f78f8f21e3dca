"""Ways to combine N values into one, entry by entry."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Σᵢ wᵢ xᵢ; ``values`` (N, rows, columns), ``weights`` (N,)."""
    return torch.tensordot(weights.to(values.dtype), values, dims=1)


def signed_mean(values: Tensor, weights: Tensor) -> Tensor:
    """TIES: elect a sign for each entry, then average the values that have it.

    γ = sgn(Σᵢ wᵢ xᵢ) and the result is Σ_{i ∈ A} wᵢ xᵢ / Σ_{i ∈ A} |wᵢ| with A = {i : sgn(wᵢ xᵢ) = γ}. At equal
    weights this is the paper's disjoint mean; a negative weight turns its update around before the vote. Entries
    whose sum is exactly 0 elect no sign and become 0.
    """
    factors = weights.to(values.dtype)[:, None, None]
    weighted = values * factors
    elected = torch.sign(weighted.sum(dim=0))
    agreeing = (torch.sign(weighted) == elected) & (elected != 0)
    total = torch.where(agreeing, weighted, 0.0).sum(dim=0)
    share = torch.where(agreeing, factors.abs(), 0.0).sum(dim=0)
    return torch.where(share > 0, total / share, 0.0)
