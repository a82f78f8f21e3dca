"""The algebra of low-rank updates ΔW = B A, without ever forming the dense matrix.

Everything costs O((d_out + d_in) R²) with R the number of columns of B. Decompositions run in float64 and go through
thin QR factors, never through a Gram matrix: squaring the condition number would lose exactly the directions in which
similar adapters differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

SVD_TOLERANCE = 1e-12
"""Singular values below this fraction of the largest are rounding noise of float64, not directions."""


class Svd(NamedTuple):
    """ΔW = U diag(S) Vᵀ with orthonormal ``U: (d_out, r)``, ``V: (d_in, r)`` and decreasing ``S: (r,)``, float64."""

    U: Tensor
    S: Tensor
    V: Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """A weight update ΔW = B A with ``B: (d_out, r)`` and ``A: (r, d_in)``; any scaling is already in the factors.

    Rank 0 is allowed and stands for the zero update. Every method depends on ΔW only, not on how it is factored.
    """

    B: Tensor
    A: Tensor

    def __post_init__(self) -> None:
        if self.B.ndim != 2 or self.A.ndim != 2 or self.B.shape[1] != self.A.shape[0]:
            raise ValueError(f"B {tuple(self.B.shape)} and A {tuple(self.A.shape)} are no factors of one matrix")

    @staticmethod
    def zero(shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> LowRank:
        """The zero update of a ``(d_out, d_in)`` weight, at rank 0."""
        return LowRank(torch.zeros(shape[0], 0, dtype=dtype), torch.zeros(0, shape[1], dtype=dtype))

    @property
    def shape(self) -> tuple[int, int]:
        """``(d_out, d_in)`` of ΔW."""
        return self.B.shape[0], self.A.shape[1]

    @property
    def rank(self) -> int:
        """Columns of B: an upper bound on the rank of ΔW."""
        return self.B.shape[1]

    @property
    def T(self) -> LowRank:
        """ΔWᵀ."""
        return LowRank(self.A.T, self.B.T)

    def to(self, dtype: torch.dtype) -> LowRank:
        """The same update with factors in ``dtype``."""
        return LowRank(self.B.to(dtype), self.A.to(dtype))

    def scaled(self, factor: float) -> LowRank:
        """factor · ΔW."""
        return LowRank(self.B * factor, self.A)

    def dense(self) -> Tensor:
        """ΔW itself, ``(d_out, d_in)``: for tests and small modules."""
        return self.B @ self.A

    def inner(self, other: LowRank) -> float:
        """The Frobenius inner product ⟨ΔW, ΔW'⟩ = Σ (BᵀB') ∘ (A A'ᵀ), in float64."""
        left, right = self.to(torch.float64), other.to(torch.float64)
        return float(((left.B.T @ right.B) * (left.A @ right.A.T)).sum())

    def norm(self) -> float:
        """‖ΔW‖_F, through the r×r core of the QR factors, so that cancelling columns cancel exactly."""
        if self.rank == 0:
            return 0.0
        factors = self.to(torch.float64)
        # mode="r" leaves the tall orthonormal factors unformed; the core has the same Frobenius norm as ΔW.
        core = torch.linalg.qr(factors.B, mode="r").R @ torch.linalg.qr(factors.A.T, mode="r").R.T
        return float(torch.linalg.matrix_norm(core))

    def svd(self, tolerance: float = SVD_TOLERANCE) -> Svd:
        """The canonical thin SVD, without the directions whose singular value is ≤ ``tolerance`` · S[0].

        Signs are fixed so that the entry of largest magnitude in each column of U is positive; apart from degenerate
        singular values the result is thus a function of ΔW. A zero update gives empty factors.
        """
        return self._leading(self.rank, tolerance)[0]

    def _leading(self, count: int, tolerance: float) -> tuple[Svd, float]:
        """The first ``count`` triples of :meth:`svd`, and the sum of all its squared singular values."""
        if self.rank == 0:
            empty = self.to(torch.float64)
            return Svd(empty.B, torch.zeros(0, dtype=torch.float64), empty.A.T), 0.0
        factors = self.to(torch.float64)
        turn_b, r_b = _triangle(factors.B)
        turn_a, r_a = _triangle(factors.A.T)
        u, s, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
        keep = int((s > tolerance * s[0]).sum())
        energy = float((s[:keep] ** 2).sum())
        keep = min(keep, count)
        u, s, v = turn_b(u[:, :keep]), s[:keep], turn_a(vt[:keep].T)
        if keep:
            peak = u.abs().argmax(dim=0)
            sign = torch.sign(u[peak, torch.arange(keep)])
            u, v = u * sign, v * sign
        return Svd(u, s, v), energy

    def truncated(self, rank: int) -> tuple[LowRank, float]:
        """The best approximation of rank ≤ ``rank`` (Eckart-Young) and the share of ‖ΔW‖²_F that it keeps.

        The factors come out as U √S and √S Vᵀ. A zero update keeps a share of 1.
        """
        (u, s, v), energy = self._leading(rank, SVD_TOLERANCE)
        root = s.sqrt()
        return LowRank(u * root, root[:, None] * v.T), float((s**2).sum()) / energy if energy else 1.0

    def balanced(self) -> LowRank:
        """The same ΔW with each column of B and row of A of about equal norm (within a factor of 2).

        Columns are scaled by powers of two, which is exact: the factors lose nothing and stay clear of the underflow
        of 16-bit types.
        """
        b, a = self.B.norm(dim=0).to(torch.float64), self.A.norm(dim=1).to(torch.float64)
        nonzero = (b > 0) & (a > 0)
        half_gap = torch.where(nonzero, torch.log2(a / b) / 2, 0.0).round()
        factor = torch.exp2(half_gap).to(self.B.dtype)
        return LowRank(self.B * factor, self.A / factor[:, None])

    def padded(self, rank: int) -> LowRank:
        """The same ΔW with zero columns in B and zero rows in A up to ``rank``."""
        extra = rank - self.rank
        if extra < 0:
            raise ValueError(f"cannot pad rank {self.rank} to {rank}")
        return LowRank(
            torch.cat([self.B, self.B.new_zeros(self.B.shape[0], extra)], dim=1),
            torch.cat([self.A, self.A.new_zeros(extra, self.A.shape[1])], dim=0),
        )


def concat(deltas: Sequence[LowRank], weights: Sequence[float]) -> LowRank:
    """The exact weighted sum Σ wᵢ ΔWᵢ = [w₁B₁ … wₙBₙ] [A₁; …; Aₙ], of rank Σ rᵢ.

    Raises:
        ValueError: no deltas, as many weights as deltas are not given, or shapes differ.
    """
    if not deltas or len(deltas) != len(weights):
        raise ValueError(f"{len(deltas)} deltas and {len(weights)} weights")
    if len({delta.shape for delta in deltas}) > 1:
        raise ValueError(f"shapes differ: {[delta.shape for delta in deltas]}")
    return LowRank(
        torch.cat([delta.B * weight for delta, weight in zip(deltas, weights, strict=True)], dim=1),
        torch.cat([delta.A for delta in deltas], dim=0),
    )


def _triangle(matrix: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """``matrix`` = Q R as the map C → Q C and R: a few columns of Q C cost far less than Q itself."""
    reflectors, tau = torch.geqrf(matrix)
    size = min(matrix.shape)

    def turn(columns: Tensor) -> Tensor:
        padded = torch.cat([columns, columns.new_zeros(len(matrix) - len(columns), columns.shape[1])])
        return torch.ormqr(reflectors[:, :size], tau, padded)

    return turn, reflectors[:size].triu()
