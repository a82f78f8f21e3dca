"""Core Space: every update as one small matrix in a basis that all of them share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.joint import core_basis
from prefdelta.merging.registry import Merged, Options
from prefdelta.merging.rules.stream import Stream
from prefdelta.merging.spaces.space import Coordinates, Space
from prefdelta.merging.stack import Stack


def enter(deltas: Sequence[LowRank], options: Options) -> Coordinates:
    """Cᵢ = Uᵀ ΔWᵢ V with U, V the left and right singular vectors of [ΔW₁ … ΔW_N] and [ΔW₁; …; ΔW_N].

    ΔWᵢ = U Cᵢ Vᵀ exactly. The paper takes U and V from the stacks of the B's and the A's, which depends on how each
    update is factored; these depend on the ΔW's alone, and span the same spaces.

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ.
    """
    stack = Stack.of(deltas)
    u, _ = core_basis(stack)
    v, _ = core_basis(stack.T)
    left, right = u.T @ stack.output_qr.R, stack.input_qr.R.T @ v
    cores = torch.empty(len(stack), left.shape[0], right.shape[1], dtype=torch.float64)
    for span, core in zip(stack.spans, cores, strict=True):
        torch.mm(left[:, span], right[span], out=core)

    def back(merged: RowBlocks) -> Merged:
        return Merged(stack.lifted(between(u, merged, v)))

    return Coordinates(Stream.of(cores), back)


def between(u: torch.Tensor, core: RowBlocks, v: torch.Tensor) -> LowRank:
    """U C Vᵀ with C multiplied into the side that leaves the lower rank."""
    middle = core.dense()
    return LowRank(u, middle @ v.T) if middle.shape[0] <= middle.shape[1] else LowRank(u @ middle, v.T)


CORE = Space("core-", "in Core Space", "Core Space, arXiv 2509.17786", Options, enter)
