"""Compress-then-Merge: two shared subspaces of the result's rank, chosen before anything is merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.joint import core_basis, sign_fixed
from prefdelta.merging.registry import Merged, Options
from prefdelta.merging.rules.stream import Stream
from prefdelta.merging.spaces.core import between
from prefdelta.merging.spaces.space import Coordinates, Space
from prefdelta.merging.stack import Stack

_STEPS = 1000
_GAIN = 1e-6  # the authors' tolerance: stop when the relative error falls by less


class CompressedOptions(Options):
    """``rank`` of the result (the largest input rank if left out), and ``beta``, how far norms count.

    At ``beta`` 1 the subspaces fit the updates as they are, so that large ones prevail; at 0 all count alike.
    """

    rank: int | None = Field(default=None, gt=0)
    beta: float = Field(default=0.25, ge=0, le=1)


def enter(deltas: Sequence[LowRank], options: CompressedOptions) -> Coordinates:
    """Oᵢ = Uᵀ ΔWᵢ V with U (d_out, k) and V (d_in, k) that fit all updates best, each rescaled first.

    U, V = argmax Σᵢ ‖Uᵀ Xᵢ V‖²_F over orthonormal bases (a Tucker-2 decomposition), where
    Xᵢ = ΔWᵢ/‖ΔWᵢ‖ · (β ‖ΔWᵢ‖ + (1 - β) mean_j ‖ΔW_j‖). It is solved in Core Space, where it loses nothing, by HOSVD
    and then alternating exact steps (HOOI). The coordinates are those of the updates themselves, not of the Xᵢ.

    This space compresses: what lies outside the two subspaces is dropped before the merge.

    Notes: ``inside_subspaces``, Σ ‖Oᵢ‖² / Σ ‖ΔWᵢ‖².

    Cost: O((d_out + d_in) R² + R³) and O(N R² k) a step, R = Σ rᵢ.
    """
    stack = Stack.of(deltas)
    left, _ = core_basis(stack)
    right, _ = core_basis(stack.T)
    outputs, inputs = left.T @ stack.output_qr.R, stack.input_qr.R.T @ right
    cores = torch.stack([outputs[:, span] @ inputs[span] for span in stack.spans])
    norms = torch.linalg.matrix_norm(cores)
    rescaled = cores / norms[:, None, None] * (options.beta * norms + (1 - options.beta) * norms.mean())[:, None, None]
    rank = options.rank or max(delta.rank for delta in deltas)
    u, v = _tucker(rescaled, min(rank, cores.shape[1]), min(rank, cores.shape[2]))
    coordinates = u.T @ cores @ v
    kept = float((coordinates**2).sum() / (cores**2).sum())

    def back(merged: RowBlocks) -> Merged:
        return Merged(stack.lifted(between(left @ u, merged, right @ v)), {"inside_subspaces": kept})

    return Coordinates(Stream.of(coordinates), back)


def _tucker(cores: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Orthonormal U and V that maximise Σᵢ ‖Uᵀ Cᵢ V‖², by HOSVD and HOOI; signs are fixed."""
    total = float((cores**2).sum())
    u = _leading(cores, rows)
    v = _leading(cores.mT, columns)
    error = 1.0
    for _ in range(_STEPS):
        u = _leading(cores @ v, rows)
        v = _leading((u.T @ cores).mT, columns)
        missed = 1 - float(((u.T @ cores @ v) ** 2).sum()) / total
        if error - max(missed, 0.0) < _GAIN:
            break
        error = max(missed, 0.0)
    return u, v


def _leading(stack: Tensor, count: int) -> Tensor:
    """The leading left singular vectors of the matrices set side by side."""
    wide = stack.permute(1, 0, 2).reshape(stack.shape[1], -1)
    return sign_fixed(torch.linalg.svd(wide, full_matrices=False).U[:, :count])


COMPRESSED = Space(
    "ctm-",
    "in two shared subspaces of the result's rank",
    "Compress then Merge, arXiv 2606.03723",
    CompressedOptions,
    enter,
)
