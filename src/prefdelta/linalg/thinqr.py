"""Thin QR factors of tall matrices, by the quick way where that is safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

WORST_CONDITION = 300.0
"""Up to this condition number (of the columns at unit length) QR goes through the Gram matrix.

The Gram matrix squares the condition number κ, so Q is orthonormal up to about κ² · 1e-16, here 1e-11. The factors of
trained adapters stay below 100; those of several near-copies side by side do not, and take Householder reflections.
"""


class ThinQr(NamedTuple):
    """``matrix`` = Q R: the upper triangle R, and the map C → Q C; a few columns of Q C cost far less than Q itself."""

    R: Tensor
    turn: Callable[[Tensor], Tensor]


def thin_qr(matrix: Tensor) -> ThinQr:
    """The thin QR decomposition of a float64 ``(d, r)`` matrix.

    Cholesky-QR where the columns are well conditioned (:data:`WORST_CONDITION`), else Householder reflections. Which
    of the two is decided by the matrix alone.

    Cost: 2 d r² for the Gram matrix, at the speed of a matrix product; about five times that for Householder.

    Source: Golub and Van Loan, Matrix Computations, section 5.2.
    """
    if 0 < matrix.shape[1] <= matrix.shape[0]:
        triangle = cholesky_triangle(matrix.T @ matrix)
        if triangle is not None:
            return ThinQr(triangle, lambda columns: matrix @ solve(triangle, columns))
    return householder(matrix)


def cholesky_triangle(gram: Tensor) -> Tensor | None:
    """The R with RᵀR = ``gram`` and a positive diagonal, or ``None`` where the condition number is too large.

    There is none without columns either.
    """
    lengths = gram.diagonal().sqrt()
    if not len(gram) or not bool((lengths > 0).all()):
        return None
    # The length of the columns does no harm to Cholesky; only the angles between them count.
    cosines = gram / lengths / lengths[:, None]
    triangle, failed = torch.linalg.cholesky_ex(cosines, upper=True)
    return None if failed or not _well_conditioned(triangle, cosines) else triangle * lengths


def _well_conditioned(triangle: Tensor, cosines: Tensor) -> bool:
    """Whether κ(R) is below :data:`WORST_CONDITION`; ``cosines`` is RᵀR."""
    # κ² ≤ ‖RᵀR‖_F ‖R⁻¹‖²_F, which mostly settles it at a fraction of the cost of eigenvalues.
    inverse = solve(triangle, torch.eye(len(triangle), dtype=triangle.dtype))
    if float(torch.linalg.matrix_norm(cosines)) * float(inverse.square().sum()) < WORST_CONDITION**2:
        return True
    spread = torch.linalg.eigvalsh(cosines)
    return float(spread[0]) * WORST_CONDITION**2 > float(spread[-1])


def solve(triangle: Tensor, columns: Tensor) -> Tensor:
    """R⁻¹ C."""
    return torch.linalg.solve_triangular(triangle, columns, upper=True)


def householder(matrix: Tensor) -> ThinQr:
    """The thin QR decomposition by Householder reflections, for any float64 ``(d, r)`` matrix."""
    reflectors, tau = torch.geqrf(matrix)
    size = min(matrix.shape)

    def turn(columns: Tensor) -> Tensor:
        padded = torch.cat([columns, columns.new_zeros(len(matrix) - len(columns), columns.shape[1])])
        return torch.ormqr(reflectors[:, :size], tau, padded)

    return ThinQr(reflectors[:size].triu(), turn)
