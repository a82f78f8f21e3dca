"""Several updates of one module side by side, with their cross products computed once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import overload

import torch
from torch import Tensor

from prefdelta.lowrank import SVD_TOLERANCE, LowRank, leading_triples, rooted
from prefdelta.thinqr import ThinQr, cholesky_triangle, thin_qr

_CHUNK = 64  # columns of a cross product computed at once; only blocks on and below the diagonal are

_CANCELLED = 1e-5  # a squared norm below this share of its terms has lost too many digits


class Stack(Sequence[LowRank]):
    """The updates ΔWᵢ = BᵢAᵢ as B = [B₁ … B_N] ``(d_out, R)`` and A = [A₁; …; A_N] ``(R, d_in)``, float64.

    It is the sequence of the updates, and beside that holds what most methods ask for more than once: BᵀB and AAᵀ,
    from which come all inner products and the QR factors. At r·N columns these products are the larger part of any
    merge's cost.

    Attributes:
        spans: the columns of B that belong to each update.
    """

    def __init__(self, deltas: Sequence[LowRank]) -> None:
        self._deltas = [delta.to(torch.float64) for delta in deltas]
        ends = accumulate((delta.rank for delta in deltas), initial=0)
        self.spans = tuple(slice(start, end) for start, end in pairwise(ends))

    @staticmethod
    def of(deltas: Sequence[LowRank]) -> Stack:
        """Stack updates of one shape; a stack is returned as it is."""
        return deltas if isinstance(deltas, Stack) else Stack(deltas)

    @cached_property
    def B(self) -> Tensor:
        """All left factors."""
        return torch.cat([delta.B for delta in self._deltas], dim=1)

    @cached_property
    def A(self) -> Tensor:
        """All right factors."""
        return torch.cat([delta.A for delta in self._deltas], dim=0)

    @property
    def rank(self) -> int:
        """R = Σ rᵢ."""
        return self.spans[-1].stop

    def __len__(self) -> int:
        return len(self.spans)

    @overload
    def __getitem__(self, index: int) -> LowRank: ...
    @overload
    def __getitem__(self, index: slice) -> list[LowRank]: ...
    def __getitem__(self, index: int | slice) -> LowRank | list[LowRank]:
        return self._deltas[index]

    def __iter__(self) -> Iterator[LowRank]:
        return iter(self._deltas)

    @cached_property
    def left(self) -> Tensor:
        """BᵀB, ``(R, R)``."""
        return _cross([self.B] if self._narrow else [delta.B for delta in self._deltas])

    @cached_property
    def right(self) -> Tensor:
        """AAᵀ, ``(R, R)``."""
        return _cross([self.A.T] if self._narrow else [delta.A.T for delta in self._deltas])

    @property
    def _narrow(self) -> bool:
        """Whether the updates have so few columns that products with all of them at once are quicker."""
        return self.rank < _CHUNK // 2 * len(self)

    @cached_property
    def output_qr(self) -> ThinQr:
        """The QR factors of B."""
        return thin_qr(self.B, self.left)

    @cached_property
    def input_qr(self) -> ThinQr:
        """The QR factors of Aᵀ."""
        return thin_qr(self.A.T, self.right)

    @cached_property
    def triangles(self) -> list[tuple[Tensor, Tensor] | None]:
        """The Cholesky factors of every BᵢᵀBᵢ and AᵢAᵢᵀ, where both are fit for it."""
        found = []
        for span in self.spans:
            left, right = cholesky_triangle(self.left[span, span]), cholesky_triangle(self.right[span, span])
            found.append(None if left is None or right is None else (left, right))
        return found

    @property
    def T(self) -> Stack:
        """The stack of the ΔWᵢᵀ."""
        turned = Stack([delta.T for delta in self._deltas])
        turned.__dict__ |= {"left": self.right, "right": self.left}
        return turned

    def gram(self) -> Tensor:
        """G with Gᵢⱼ = ⟨ΔWᵢ, ΔWⱼ⟩_F, ``(N, N)``."""
        return self._by_update(self._by_update(self.left * self.right).T)

    def inner(self, delta: LowRank) -> Tensor:
        """⟨ΔW, ΔWᵢ⟩ for every i, ``(N,)``."""
        if isinstance(delta, Within) and delta.stack is self:
            return self._by_update(((delta.X.T @ self.left) * (delta.Y.T @ self.right)).sum(dim=0))
        factors = delta.to(torch.float64)
        products = (factors.B.T @ self.B) * (factors.A @ self.A.T)
        return self._by_update(products.sum(dim=0))

    def spread(self, weights: Sequence[float]) -> Tensor:
        """One weight per update as one per column of B, ``(R,)``."""
        repeats = torch.tensor([span.stop - span.start for span in self.spans])
        return torch.tensor(list(weights), dtype=torch.float64).repeat_interleave(repeats)

    def within(self, X: Tensor, Y: Tensor) -> Within:
        """The update B X Yᵀ A, from X and Y ``(R, k)``."""
        if self._narrow:
            return Within(self.B @ X, Y.T @ self.A, self, X, Y)
        rows, columns = self._deltas[0].shape
        left, right = X.new_zeros(rows, X.shape[1]), X.new_zeros(X.shape[1], columns)
        for delta, span in zip(self._deltas, self.spans, strict=True):
            left.addmm_(delta.B, X[span])
            right.addmm_(Y[span].T, delta.A)
        return Within(left, right, self, X, Y)

    def weighted(self, weights: Sequence[float]) -> LowRank:
        """Σ wᵢ ΔWᵢ, exact, at rank R."""
        factors = self.spread(weights)
        return Within(self.B * factors, self.A, self, torch.diag(factors), torch.eye(len(factors), dtype=torch.float64))

    def truncated(self, weights: Sequence[float], rank: int) -> tuple[LowRank, float]:
        """:meth:`LowRank.truncated` of Σ wᵢ ΔWᵢ."""
        if not self.rank:
            return LowRank.zero(self[0].shape), 1.0
        core = (self.output_qr.R * self.spread(weights)) @ self.input_qr.R.T
        return rooted(*leading_triples(self.output_qr, core, self.input_qr, rank, SVD_TOLERANCE))

    def well_conditioned(self) -> Stack:
        """The same updates, each with factors fit for Cholesky-QR.

        Columns that add nothing (padding with zeros, an untrained B) are left out; a factor whose columns are too
        near to one another is replaced by the canonical SVD's.
        """
        if all(found or not delta.rank for found, delta in zip(self.triangles, self, strict=True)):
            return self
        return Stack.of([self._conditioned(index) for index in range(len(self))])

    def _conditioned(self, index: int) -> LowRank:
        own, span = self[index], self.spans[index]
        if self.triangles[index] is not None:
            return own
        left, right = self.left[span, span], self.right[span, span]
        alive = (left.diagonal() > 0) & (right.diagonal() > 0)
        own, left, right = LowRank(own.B[:, alive], own.A[alive]), left[alive][:, alive], right[alive][:, alive]
        if not own.rank or (cholesky_triangle(left) is not None and cholesky_triangle(right) is not None):
            return own
        u, s, v = own.svd()
        return LowRank(u * s, v.T)

    def _by_update(self, values: Tensor) -> Tensor:
        """Sum the last dimension over the columns of each update."""
        return torch.stack([values[..., span].sum(dim=-1) for span in self.spans], dim=-1)


@dataclass(frozen=True, eq=False)
class Within(LowRank):
    """An update B X Yᵀ A whose factors are combinations of a stack's: its norm and products are known from small ones.

    Attributes:
        stack: the stack.
        X: ``(R, k)``.
        Y: ``(R, k)``.
    """

    stack: Stack
    X: Tensor
    Y: Tensor

    def norm(self) -> float:
        """‖ΔW‖_F. Where the terms cancel, products would lose it, and it is computed from the factors."""
        left, right = self.X.T @ self.stack.left @ self.X, self.Y.T @ self.stack.right @ self.Y
        square = float((left * right).sum())
        terms = float(torch.linalg.matrix_norm(left) * torch.linalg.matrix_norm(right))
        return math.sqrt(square) if square > _CANCELLED * terms else super().norm()


def _cross(blocks: Sequence[Tensor]) -> Tensor:
    """MᵀM for M the blocks side by side, about half of it by symmetry."""
    pieces = [piece for block in blocks for piece in block.split(_CHUNK, dim=1)]
    starts = list(accumulate((piece.shape[1] for piece in pieces), initial=0))
    products = blocks[0].new_empty(starts[-1], starts[-1])
    for i, left in enumerate(pieces):
        for j, right in enumerate(pieces[: i + 1]):
            block = left.T @ right
            products[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = block
            products[starts[j] : starts[j + 1], starts[i] : starts[i + 1]] = block.T
    return products
