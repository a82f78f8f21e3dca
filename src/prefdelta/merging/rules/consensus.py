"""Ways to combine N values into one, entry by entry."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Σᵢ wᵢ xᵢ, (rows, columns); ``values`` (N, rows, columns), ``weights`` (N,)."""
    return torch.tensordot(weights.to(values.dtype), values, dims=1)


def signed_mean(values: Tensor, weights: Tensor) -> Tensor:
    """TIES: elect a sign for each entry, then average the values that have it.

    ``values`` (N, rows, columns), which may be overwritten; ``weights`` (N,); the result is (rows, columns).

    γ = sgn(Σᵢ wᵢ xᵢ) and the result is Σ_{i ∈ A} wᵢ xᵢ / Σ_{i ∈ A} |wᵢ| with A = {i : sgn(wᵢ xᵢ) = γ}. At equal
    weights this is the paper's disjoint mean; a negative weight turns its update around before the vote. Entries
    whose sum is exactly 0 elect no sign and become 0.

    Source: TIES-Merging, arXiv 2306.01708, algorithm 1.
    """
    factors = weights.to(values.dtype)
    sizes = factors.abs()
    flat = values.reshape(len(values), -1)
    elected = torch.sign(factors @ flat)
    # What points the elected way, as a positive number: each pass over all values is dear, so there are few.
    agreeing = flat.mul_(elected)
    if bool((factors < 0).any()):
        agreeing *= torch.sign(factors)[:, None]
    agreeing.clamp_(min=0)
    total = sizes @ agreeing
    share = sizes @ agreeing.sign_()
    # Where nothing agrees, the total is 0 as well.
    return (elected * total / share.clamp_(min=torch.finfo(share.dtype).tiny)).reshape(values.shape[1:])
