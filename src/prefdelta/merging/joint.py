"""Bases that several updates share, found through small cores and never from the dense updates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefdelta.lowrank import SVD_TOLERANCE, LowRank


def output_basis(deltas: Sequence[LowRank], tolerance: float = SVD_TOLERANCE) -> tuple[Tensor, Tensor]:
    """Left singular vectors U ``(d_out, k)`` and singular values S ``(k,)`` of [ΔW₁ … ΔW_N] (d_out x N d_in).

    With Aᵢᵀ = Qᵢ Tᵢ the concatenation is [B₁T₁ᵀ … B_NT_Nᵀ] times a matrix with orthonormal rows, so the SVD of that
    d_out x R matrix gives U and S. The result is a function of the ΔW's: each column's entry of largest magnitude is
    positive, and directions with a singular value of at most ``tolerance`` times the largest are left out.

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ.
    """
    stack = torch.cat([delta.B @ torch.linalg.qr(delta.A.T, mode="r").R.T for delta in deltas], dim=1)
    q, r = torch.linalg.qr(stack)
    u, s, _ = torch.linalg.svd(r, full_matrices=False)
    keep = int((s > tolerance * s[0]).sum()) if s.numel() and s[0] > 0 else 0
    return sign_fixed(q @ u[:, :keep]), s[:keep]


def input_basis(deltas: Sequence[LowRank], tolerance: float = SVD_TOLERANCE) -> tuple[Tensor, Tensor]:
    """Right singular vectors V ``(d_in, k)`` and singular values of [ΔW₁; …; ΔW_N], as :func:`output_basis`."""
    return output_basis([delta.T for delta in deltas], tolerance)


def sign_fixed(basis: Tensor) -> Tensor:
    """The basis with the entry of largest magnitude in each column made positive."""
    if basis.numel() == 0:
        return basis
    peak = basis.abs().argmax(dim=0)
    return basis * torch.sign(basis[peak, torch.arange(basis.shape[1])])


def nearest_isometry(columns: Tensor, tolerance: float) -> tuple[Tensor, float]:
    """The polar factor P Qᵀ of ``columns`` = P Σ Qᵀ, and Σ's smallest value that counts.

    Where the columns are independent, it is the nearest matrix with orthonormal columns. Directions with a singular
    value of at most ``tolerance`` times the largest are left out: there every choice would be as near as any other.
    """
    if columns.shape[1] == 0:
        return columns, 1.0
    q, r = torch.linalg.qr(columns)
    p, s, qt = torch.linalg.svd(r, full_matrices=False)
    keep = int((s > tolerance * s[0]).sum())
    return q @ (p[:, :keep] @ qt[:keep]), float(s[keep - 1])
