"""Directions that a merge is a weighted sum of, and the update that coefficients make of them.

Every learned merge of this package has, in every module, the form ΔW(φ) = L C(φ) R with fixed L ``(d_out, p)`` and
R ``(q, d_in)`` and a small core C(φ) ``(p, q)`` that is linear in the coefficients φ. So a step costs
O(tokens · (p d_out + p q + q d_in)), its backward pass needs nothing of the size of a weight, and the result is an
adapter of rank min(p, q).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from prefdelta.linalg.lowrank import LowRank
from prefdelta.linalg.shared_bases import output_basis
from prefdelta.linalg.stack import Stack
from prefdelta.merging.learned.methods import implements
from prefdelta.merging.methods.gam import aligned_parts
from prefdelta.merging.methods.options import GamOptions
from prefdelta.merging.registry import Options


@dataclass(frozen=True, eq=False)
class Directions(ABC):
    """One module's directions.

    Attributes:
        left: L, ``(d_out, p)``.
        right: R, ``(q, d_in)``.
    """

    left: Tensor
    right: Tensor

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of φ."""

    @abstractmethod
    def core(self, coefficients: Tensor) -> Tensor:
        """C(φ), ``(p, q)``, linear in φ."""

    def fold(self, coefficients: Tensor) -> LowRank:
        """ΔW(φ) at rank min(p, q)."""
        core = self.core(coefficients)
        wide = core.shape[0] <= core.shape[1]
        return LowRank(self.left, core @ self.right) if wide else LowRank(self.left @ core, self.right)

    def to(self, device: torch.device, dtype: torch.dtype) -> Directions:
        """The same directions elsewhere, or in another number format."""
        parts = ((each.name, getattr(self, each.name)) for each in fields(self))
        moved = {
            name: part.to(device, dtype if part.is_floating_point() else None)
            for name, part in parts
            if isinstance(part, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True, eq=False)
class Columns(Directions):
    """The adapters' own columns, ΔW(φ) = Σⱼ φ_owner(j) bⱼ aⱼᵀ: C(φ) is diagonal.

    Attributes:
        owner: which coefficient each column of L takes, ``(p,)``.
        count: how many coefficients there are.
    """

    owner: Tensor
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """``(count,)``."""
        return (self.count,)

    def core(self, coefficients: Tensor) -> Tensor:
        """diag(φ_owner)."""
        return torch.diag(coefficients[self.owner])


@dataclass(frozen=True, eq=False)
class SharedBasis(Directions):
    """Shared left singular vectors, ΔW(φ) = Σᵢ U diag(φᵢ) Uᵀ ΔWᵢ: L = U, R = [A₁; …; A_N], C(φ)_kj = φ_owner(j),k Pₖⱼ.

    Attributes:
        products: P = Uᵀ [B₁ … B_N], ``(k, Σrᵢ)``.
        owner: the adapter that each row of R belongs to, ``(Σrᵢ,)``.
        adapters: N.
    """

    products: Tensor
    owner: Tensor
    adapters: int

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, k)``."""
        return self.adapters, len(self.products)

    def core(self, coefficients: Tensor) -> Tensor:
        """φ_owner ∘ P."""
        return coefficients[self.owner].T * self.products


@dataclass(frozen=True, eq=False)
class AlignedCores(Directions):
    """GAM's aligned cores between its averaged bases, ΔW(φ) = Ū (Σᵢ φᵢ S̃ᵢ) V̄ᵀ.

    Attributes:
        cores: S̃ᵢ, ``(N, r, r)``; zero for an adapter without an update.
    """

    cores: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N,)``."""
        return (len(self.cores),)

    def core(self, coefficients: Tensor) -> Tensor:
        """Σᵢ φᵢ S̃ᵢ."""
        return torch.einsum("n,nij->ij", coefficients, self.cores)


@implements("tara-a")
def rank_columns(deltas: Sequence[LowRank], options: Options) -> Columns:
    """One coefficient per column of every adapter, φ ``(Σrᵢ,)``: TARA's variant A.

    The columns are those of the stored factors, as in the paper, so that the result depends on how an update happens
    to be factored: it is the one choice here of which that is true.

    Source: arXiv 2603.26299, "per-rank LoRA direction selection".
    """
    stack = Stack.of(deltas)
    return Columns(stack.B, stack.A, owner=torch.arange(stack.rank), count=stack.rank)


@implements("ada-task", "ada-module")
def whole_updates(deltas: Sequence[LowRank], options: Options) -> Columns:
    """One coefficient per adapter, φ ``(N,)``: ΔW(φ) = Σ φᵢ ΔWᵢ.

    Source: AdaMerging, arXiv 2310.02575, equations 2 and 4.
    """
    stack = Stack.of(deltas)
    return Columns(stack.B, stack.A, owner=stack.outputs.spread(torch.arange(len(stack))), count=len(stack))


@implements("tara-b")
def shared_basis(deltas: Sequence[LowRank], options: Options) -> SharedBasis:
    """One coefficient per adapter and direction of the shared basis, φ ``(N, k)``: TARA's variant B.

    With M = [ΔW₁ | … | ΔW_N] = U S Vᵀ and Vᵀ cut into blocks vₖᵢ, the paper's direction is σₖ uₖ vₖᵢᵀ = uₖ uₖᵀ ΔWᵢ;
    so ΔW(φ) = Σᵢ U diag(φᵢ) Uᵀ ΔWᵢ, and neither S nor V is needed. k is the rank of M: at most Σrᵢ, less where that
    exceeds d_out or where directions coincide (:func:`~prefdelta.linalg.shared_bases.output_basis`). With all
    coefficients equal to c this is exactly c Σ ΔWᵢ; with 1 in one adapter's row and 0 elsewhere it is that adapter.

    Cost: O((d_out + d_in) R² + R³), R = Σrᵢ; the dense matrix M is never formed.

    Source: arXiv 2603.26299, "shared singular-direction selection".
    """
    stack = Stack.of(deltas)
    basis, _ = output_basis(stack)
    return SharedBasis(
        basis,
        stack.A,
        products=basis.T @ stack.B,
        owner=stack.outputs.spread(torch.arange(len(stack))),
        adapters=len(stack),
    )


@implements("gam-task", "gam-module")
def aligned_cores(deltas: Sequence[LowRank], options: GamOptions) -> AlignedCores:
    """One coefficient per adapter on GAM's aligned cores, φ ``(N,)``.

    The alignment and the bases Ū and V̄, means at equal weights, are computed once and stay; learned is how much of
    each aligned core S̃ᵢ is between them. For fixed bases GAM is linear in the cores, so the sum needs no
    normalisation and its gradient is exact. With all coefficients equal to c it is c n times GAM at equal weights
    (n adapters with an update), which is c Σ ΔWᵢ where the subspaces coincide.

    Source: arXiv 2606.00357, equations 1-5, with coefficients in place of the mean over the cores.
    """
    left, cores, right = aligned_parts(deltas, options)
    return AlignedCores(left, right, cores=cores)
