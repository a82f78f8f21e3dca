"""Pairwise inner products of updates: all that a merge of the form Σ cᵢ ΔWᵢ needs to know."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from prefdelta.lowrank import LowRank
from prefdelta.merging.stack import Stack


def gram(deltas: Sequence[LowRank]) -> Tensor:
    """G with Gᵢⱼ = ⟨ΔWᵢ, ΔWⱼ⟩_F, ``(N, N)``, float64.

    Cost: O(N² (d_out + d_in) r²); nothing more for a stack whose cross products are known.
    """
    return Stack.of(deltas).gram()


def inner_products(delta: LowRank, others: Sequence[LowRank]) -> list[float]:
    """⟨ΔW, ΔWᵢ⟩ for every i."""
    products: list[float] = Stack.of(others).inner(delta).tolist()
    return products
