"""Shared bases: singular vectors of the concatenated updates, and the polar factor, through small cores in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefdelta.linalg.lowrank import LowRank, peak_signs
from prefdelta.linalg.stack import Stack
from prefdelta.linalg.thinqr import cholesky_triangle, householder, thin_qr
from prefdelta.linalg.tolerance import SVD_TOLERANCE


def core_basis(stack: Stack) -> tuple[Tensor, Tensor]:
    """Left singular vectors U ``(R, k)`` and singular values S ``(k,)`` of [ΔW₁ … ΔW_N], U over the basis of the cores.

    With Aᵢᵀ = Qᵢ Tᵢ the concatenation is [B₁T₁ᵀ … B_NT_Nᵀ] times a matrix with orthonormal rows; and with the stacked
    B = Q R, the SVD of R diag(T₁ᵀ, …, T_Nᵀ), an R x R matrix, gives U as coefficients over Q. Each column's entry of
    largest magnitude is positive, and directions with a singular value of at most :data:`SVD_TOLERANCE` times the
    largest are left out.

    Cost: O(R³) beside the QR factors of B, R = Σ rᵢ.
    """
    triangles = []
    for index, own in enumerate(stack.inputs.own):
        triangle = cholesky_triangle(own)
        if triangle is None:
            triangle = householder(stack.inputs.block(index, torch.float64)).R
        triangles.append(triangle.T)
    u, s, _ = torch.linalg.svd(stack.outputs.qr.R @ torch.block_diag(*triangles), full_matrices=False)
    keep = int((s > SVD_TOLERANCE * s[0]).sum()) if s.numel() and s[0] > 0 else 0
    return sign_fixed(u[:, :keep]), s[:keep]


def output_basis(deltas: Sequence[LowRank]) -> tuple[Tensor, Tensor]:
    """Left singular vectors U ``(d_out, k)`` and singular values S ``(k,)`` of [ΔW₁ … ΔW_N] (d_out x N d_in).

    A function of the ΔW's: each column's entry of largest magnitude is positive, and directions with a singular value
    of at most :data:`SVD_TOLERANCE` times the largest are left out.

    Cost: O((d_out + d_in) R² + R³), R = Σ rᵢ.
    """
    stack = Stack.of(deltas)
    u, s = core_basis(stack)
    return sign_fixed(stack.outputs.qr.turn(u)), s


def sign_fixed(basis: Tensor) -> Tensor:
    """The basis with the entry of largest magnitude in each column made positive."""
    return basis * peak_signs(basis)


def nearest_isometry(columns: Tensor, tolerance: float) -> tuple[Tensor, float]:
    """The polar factor P Qᵀ of ``columns`` = P Σ Qᵀ, and Σ's smallest value that counts.

    Where the columns are independent, it is the nearest matrix with orthonormal columns. Directions with a singular
    value of at most ``tolerance`` times the largest are left out: there every choice would be as near as any other.
    """
    if columns.shape[1] == 0:
        return columns, 1.0
    qr = thin_qr(columns)
    p, s, qt = torch.linalg.svd(qr.R, full_matrices=False)
    keep = int((s > tolerance * s[0]).sum())
    return qr.turn(p[:, :keep] @ qt[:keep]), float(s[keep - 1])
