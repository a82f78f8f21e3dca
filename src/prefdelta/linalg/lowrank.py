"""The algebra of low-rank updates ΔW = B A, without ever forming the dense matrix.

Everything costs O((d_out + d_in) R²) with R the number of columns of B. Decompositions run in float64 and go through
thin QR factors (:mod:`prefdelta.linalg.thinqr`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from prefdelta.linalg.thinqr import ThinQr, thin_qr
from prefdelta.linalg.tolerance import SVD_TOLERANCE


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
        return self if factor == 1.0 else LowRank(self.B * factor, self.A)

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
        # The core has the same Frobenius norm as ΔW, and the tall orthonormal factors are never formed.
        return float(torch.linalg.matrix_norm(thin_qr(factors.B).R @ thin_qr(factors.A.T).R.T))

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
        b, a = thin_qr(factors.B), thin_qr(factors.A.T)
        return leading_triples(b, b.R @ a.R.T, a, count, tolerance)

    def truncated(self, rank: int) -> tuple[LowRank, float]:
        """The best approximation of rank ≤ ``rank`` (Eckart-Young) and the share of ‖ΔW‖²_F that it keeps.

        The factors come out as U √S and √S Vᵀ. A zero update keeps a share of 1.
        """
        return rooted(*self._leading(rank, SVD_TOLERANCE))

    def balanced(self) -> LowRank:
        """The same ΔW with each column of B and row of A of about equal norm (within a factor of 2.2).

        Columns are scaled by powers of two, which is exact: the factors lose nothing and stay clear of the underflow
        of 16-bit types.
        """
        b, a = self.B.square().sum(dim=0).sqrt().to(torch.float64), self.A.norm(dim=1).to(torch.float64)
        factor = evening(b, a).to(self.B.dtype)
        return LowRank(self.B * factor, self.A / factor[:, None])

    def padded(self, rank: int) -> LowRank:
        """The same ΔW with zero columns in B and zero rows in A up to ``rank``."""
        extra = rank - self.rank
        if extra < 0:
            raise ValueError(f"cannot pad rank {self.rank} to {rank}")
        if not extra:
            return self
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


def leading_triples(left: ThinQr, core: Tensor, right: ThinQr, count: int, tolerance: float) -> tuple[Svd, float]:
    """The canonical SVD of Q_left core Q_rightᵀ, cut to ``count`` triples, and the sum of all squared values.

    See :meth:`LowRank.svd` for ``tolerance`` and the signs.
    """
    u, s, vt = torch.linalg.svd(core, full_matrices=False)
    keep = int((s > tolerance * s[0]).sum())
    energy = float((s[:keep] ** 2).sum())
    keep = min(keep, count)
    u, s, v = left.turn(u[:, :keep]), s[:keep], right.turn(vt[:keep].T)
    sign = peak_signs(u)
    return Svd(u * sign, s, v * sign), energy


def evening(b: Tensor, a: Tensor) -> Tensor:
    """The powers of two that make lengths b and a about equal, as b · f and a / f; 1 where one of them is zero."""
    nonzero = (b > 0) & (a > 0)
    half_gap = torch.where(nonzero, torch.log2(a / b) / 2, 0.0)
    # Lengths that are in a ratio of 2, of which there are many, must not be decided by their last bit.
    return torch.exp2(torch.ceil(half_gap - 0.55))


def peak_signs(columns: Tensor) -> Tensor:
    """The sign of the entry of largest magnitude in each column, +1 between equal ones."""
    if not columns.numel():
        return columns.new_ones(columns.shape[1])
    lowest, highest = columns.aminmax(dim=0)
    return torch.where(highest >= -lowest, 1.0, -1.0).to(columns.dtype)


def rooted(parts: Svd, energy: float) -> tuple[LowRank, float]:
    """The factors U √S and √S Vᵀ, and the share of ``energy`` that they hold; a share of 1 where there is none."""
    root = parts.S.sqrt()
    update = LowRank(parts.U * root, root[:, None] * parts.V.T)
    return update, float((parts.S**2).sum()) / energy if energy else 1.0
