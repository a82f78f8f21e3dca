"""Stack: the low-rank updates of one module side by side, with Gram matrices and QR computed once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from prefdelta.linalg.factor_stack import FactorStack
from prefdelta.linalg.factored_update import Columns, Combination, FactoredUpdate, Given
from prefdelta.linalg.lowrank import LowRank, leading_triples, rooted
from prefdelta.linalg.thinqr import ThinQr, cholesky_triangle
from prefdelta.linalg.tolerance import SVD_TOLERANCE


class Stack(Sequence[LowRank]):
    """The updates ΔWᵢ = BᵢAᵢ as B = [B₁ … B_N] ``(d_out, R)`` and A = [A₁; …; A_N] ``(R, d_in)``.

    It is the sequence of the updates, in float64, and beside that holds what most methods ask for more than once: BᵀB
    and AAᵀ, from which come all inner products and the QR factors. At r·N columns these products are the larger part
    of any merge's cost. The factors themselves stay in the type they came in, and are converted only by whoever asks
    for them: most methods need them as :meth:`factored` or :attr:`cores` do, a few rows at a time.

    Attributes:
        outputs: B.
        inputs: Aᵀ.
    """

    def __init__(self, outputs: FactorStack, inputs: FactorStack) -> None:
        self.outputs = outputs
        self.inputs = inputs

    @staticmethod
    def of(deltas: Sequence[LowRank], factors: Sequence[float] | None = None) -> Stack:
        """Stack updates of one shape, each times its factor if there are any; a stack is returned as it is."""
        if isinstance(deltas, Stack):
            return deltas
        ones = [1.0] * len(deltas)
        return Stack(
            FactorStack([delta.B for delta in deltas], ones if factors is None else factors, transposed=False),
            FactorStack([delta.A for delta in deltas], ones, transposed=True),
        )

    @property
    def B(self) -> Tensor:
        """All left factors."""
        return self.outputs.dense

    @property
    def A(self) -> Tensor:
        """All right factors."""
        return self.inputs.dense.T

    @property
    def spans(self) -> tuple[slice, ...]:
        """The columns of B that belong to each update."""
        return self.outputs.spans

    @property
    def shape(self) -> tuple[int, int]:
        """``(d_out, d_in)`` of the updates."""
        return self.outputs.shape[0], self.inputs.shape[0]

    @property
    def dtypes(self) -> set[torch.dtype]:
        """The types that the factors are stored in."""
        return self.outputs.dtypes | self.inputs.dtypes

    @property
    def rank(self) -> int:
        """R = Σ rᵢ."""
        return self.spans[-1].stop

    @cached_property
    def _deltas(self) -> list[LowRank]:
        ones = [torch.ones(span.stop - span.start, dtype=torch.float64) for span in self.spans]
        return [
            FactoredUpdate(Combination(self.outputs.only(index), one), Combination(self.inputs.only(index), one))
            for index, one in enumerate(ones)
        ]

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
    def triangles(self) -> list[tuple[Tensor, Tensor] | None]:
        """The Cholesky factors of every BᵢᵀBᵢ and AᵢAᵢᵀ, where both are fit for it."""
        found = []
        for outputs, inputs in zip(self.outputs.own, self.inputs.own, strict=True):
            left, right = cholesky_triangle(outputs), cholesky_triangle(inputs)
            found.append(None if left is None or right is None else (left, right))
        return found

    @property
    def T(self) -> Stack:
        """The stack of the ΔWᵢᵀ."""
        return Stack(self.inputs, self.outputs)

    @cached_property
    def cores(self) -> Stack:
        """The same updates in the orthonormal bases of B = Q_B R_B and Aᵀ = Q_A R_A: ΔWᵢ = Q_B Cᵢ Q_Aᵀ exactly.

        A method that commutes with rotations of the module's input and output may work on these, matrices of side R
        at most, and have its result :meth:`lifted`.
        """
        left, right = self.outputs.qr.R, self.inputs.qr.R.T
        return Stack.of([LowRank(left[:, span], right[span]) for span in self.spans])

    def lifted(self, core: LowRank) -> LowRank:
        """Q_B C Q_Aᵀ, for a C ``(R, R)`` in the bases of :attr:`cores`."""
        return FactoredUpdate(self.turned(core.B), self.T.turned(core.A.T))

    def turned(self, columns: Tensor) -> Columns:
        """Q_B C for a C ``(R, k)``."""
        X = self.outputs.coefficients(columns)
        if X is None:
            return Given(self.outputs, self.outputs.qr.turn(columns))
        return Combination(self.outputs, X)

    def multiply_pairs(self) -> None:
        """Compute all cross products now."""
        _ = self.outputs.gram, self.inputs.gram

    @property
    def gram_is_known(self) -> bool:
        """Whether all cross products have been computed, so that what follows from them costs little."""
        return self.outputs.gram_is_known and self.inputs.gram_is_known

    def norms(self) -> list[float]:
        """‖ΔWᵢ‖_F of every update."""
        squares = (float((left * right).sum()) for left, right in zip(self.outputs.own, self.inputs.own, strict=True))
        return [math.sqrt(max(square, 0.0)) for square in squares]

    def gram(self) -> Tensor:
        """G with Gᵢⱼ = ⟨ΔWᵢ, ΔWⱼ⟩_F, ``(N, N)``."""
        return self._by_update(self._by_update(self.outputs.gram * self.inputs.gram).T)

    def inner(self, delta: LowRank) -> Tensor:
        """⟨ΔW, ΔWᵢ⟩ for every i, ``(N,)``."""
        if isinstance(delta, FactoredUpdate) and delta.left.stack is self.outputs and delta.right.stack is self.inputs:
            left, right = delta.products()
        else:
            factors = delta.to(torch.float64)
            left, right = self.outputs.against(factors.B), self.inputs.against(factors.A.T)
        return self._by_update((left * right).sum(dim=1))

    def spread(self, weights: Sequence[float]) -> Tensor:
        """One weight per update as one per column of B, ``(R,)``."""
        return self.outputs.spread(torch.tensor(list(weights), dtype=torch.float64))

    def factored(self, X: Tensor, Y: Tensor) -> FactoredUpdate:
        """The update B X Yᵀ A, from X and Y ``(R, k)``, or ``(R,)`` for diagonal ones."""
        return FactoredUpdate(Combination(self.outputs, X), Combination(self.inputs, Y))

    def combined(self, X: Tensor, Y: Tensor) -> FactoredUpdate:
        """B X Yᵀ A, from X and Y ``(R, k)``, at a cost linear in the number of updates, whatever is known of them."""
        if self.gram_is_known:
            return self.factored(X, Y)
        outputs, inputs = self.outputs, self.inputs
        return FactoredUpdate(
            Given(outputs, outputs.times(X, outputs.working)), Given(inputs, inputs.times(Y, inputs.working))
        )

    def weighted(self, weights: Sequence[float]) -> LowRank:
        """Σ wᵢ ΔWᵢ, exact, at rank R."""
        factors = self.spread(weights)
        return self.factored(factors, torch.ones_like(factors))

    def truncated(self, weights: Sequence[float], rank: int) -> tuple[LowRank, float]:
        """:meth:`LowRank.truncated` of Σ wᵢ ΔWᵢ."""
        if not self.rank:
            return LowRank.zero(self.shape), 1.0
        core = (self.outputs.qr.R * self.spread(weights)) @ self.inputs.qr.R.T
        as_is = ThinQr(core, lambda columns: columns)
        small, kept = rooted(*leading_triples(as_is, core, as_is, rank, SVD_TOLERANCE))
        return self.lifted(small), kept

    def well_conditioned(self) -> Stack:
        """The same updates, each with factors fit for Cholesky-QR.

        Columns that add nothing (padding with zeros, an untrained B) are left out; a factor whose columns are too
        near to one another is replaced by the canonical SVD's.
        """
        if all(found or span.start == span.stop for found, span in zip(self.triangles, self.spans, strict=True)):
            return self
        return Stack.of([self._conditioned(index) for index in range(len(self))])

    def _conditioned(self, index: int) -> LowRank:
        own = self[index]
        if self.triangles[index] is not None:
            return own
        left, right = self.outputs.own[index], self.inputs.own[index]
        alive = (left.diagonal() > 0) & (right.diagonal() > 0)
        own, left, right = LowRank(own.B[:, alive], own.A[alive]), left[alive][:, alive], right[alive][:, alive]
        if not own.rank or (cholesky_triangle(left) is not None and cholesky_triangle(right) is not None):
            return own
        u, s, v = own.svd()
        return LowRank(u * s, v.T)

    def _by_update(self, values: Tensor) -> Tensor:
        """Sum the last dimension over the columns of each update."""
        return torch.stack([values[..., span].sum(dim=-1) for span in self.spans], dim=-1)
