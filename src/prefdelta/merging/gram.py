"""Pairwise inner products of updates: all that a merge of the form Σ cᵢ ΔWᵢ needs to know."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefdelta.lowrank import LowRank


def gram(deltas: Sequence[LowRank]) -> Tensor:
    """G with Gᵢⱼ = ⟨ΔWᵢ, ΔWⱼ⟩_F, ``(N, N)``, float64.

    Cost: O(N² (d_out + d_in) r²).
    """
    count = len(deltas)
    products = torch.zeros(count, count, dtype=torch.float64)
    for i, left in enumerate(deltas):
        for j in range(i + 1):
            products[i, j] = products[j, i] = left.inner(deltas[j]) if left.rank and deltas[j].rank else 0.0
    return products


def inner_products(delta: LowRank, others: Sequence[LowRank]) -> list[float]:
    """⟨ΔW, ΔWᵢ⟩ for every i."""
    return [delta.inner(other) if other.rank else 0.0 for other in others]
