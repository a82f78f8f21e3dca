"""A merged update by its factors over the stacked ones it was made from: norms and products without them.

:class:`FactoredUpdate` is the update; each of its two factors is a :class:`Combination` of stacked factors, or is
:class:`Given`.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from prefdelta.linalg.factor_stack import FactorStack
from prefdelta.linalg.lowrank import LowRank, evening

_CANCELLED = 1e-5  # a squared norm below this share of its terms has lost too many digits


class Combination:
    """M X ``(d, k)``: combinations of the columns of a factor stack M ``(d, R)``.

    They come to exist only if someone asks for them; their products follow from MᵀM and small matrices.

    Args:
        stack: M.
        X: ``(R, k)``, or ``(R,)`` for a diagonal matrix.
    """

    def __init__(self, stack: FactorStack, X: Tensor) -> None:
        self.stack = stack
        self.X = X

    @property
    def count(self) -> int:
        """k."""
        return self.X.shape[-1]

    def matrix(self, dtype: torch.dtype = torch.float64, *, then: float = 1.0) -> Tensor:
        """M X times the number ``then``, rounded once to ``dtype``."""
        return self.stack.times(self.X, dtype, then=then)

    def stretched(self, factors: Tensor) -> Combination:
        """Each column times its factor."""
        return Combination(self.stack, self.X * factors)

    @cached_property
    def products(self) -> Tensor:
        """MᵀM X."""
        return _by(self.stack.gram, self.X)

    @cached_property
    def own(self) -> Tensor:
        """XᵀMᵀM X."""
        return _by(self.products.T, self.X)

    def squares(self) -> Tensor:
        """The squared length that every column would have if nothing in it cancelled, ``(k,)``."""
        lengths = self.stack.gram.diagonal().clamp(min=0).sqrt()
        return _by(lengths, self.X.abs()).square()


class Given:
    """Columns ``(d, k)`` that are there, in float32 or float64, beside a factor stack M of as many rows.

    Its attributes and methods are those of :class:`Combination`.
    """

    def __init__(self, stack: FactorStack, columns: Tensor) -> None:
        self.stack = stack
        self._columns = columns

    @property
    def count(self) -> int:
        """k."""
        return self._columns.shape[1]

    def matrix(self, dtype: torch.dtype = torch.float64, *, then: float = 1.0) -> Tensor:
        """The columns times the number ``then``, rounded to ``dtype``."""
        return (self._columns if then == 1.0 else self._columns * then).to(dtype)

    def stretched(self, factors: Tensor) -> Given:
        """Each column times its factor."""
        return Given(self.stack, self._columns * factors.to(self._columns.dtype))

    @cached_property
    def products(self) -> Tensor:
        """Mᵀ times the columns."""
        return self.stack.against(self._columns)

    @cached_property
    def own(self) -> Tensor:
        """The products of the columns with one another."""
        return (self._columns.T @ self._columns).to(torch.float64)

    def squares(self) -> Tensor:
        """The squared lengths: there is nothing to cancel."""
        return self.own.diagonal()


Columns = Combination | Given


def _by(matrix: Tensor, columns: Tensor) -> Tensor:
    """M C, where a vector C stands for a diagonal matrix."""
    return matrix * columns if columns.ndim == 1 else matrix @ columns


class FactoredUpdate(LowRank):
    """The update f · L Rᵀ, L and R being columns over the factors of a stack.

    Its norm and its products with the stack's updates are known from small matrices, and it goes straight into the
    type it is stored in: the factors in float64 come to exist only if someone asks for them.

    Attributes:
        left: L, over the stack's B.
        right: R, over the stack's Aᵀ.
        factor: f.
    """

    left: Columns
    right: Columns
    factor: float

    def __init__(self, left: Columns, right: Columns, factor: float = 1.0) -> None:
        # The dataclass is frozen, and its own fields are computed here.
        self.__dict__.update(left=left, right=right, factor=factor)

    @cached_property
    def B(self) -> Tensor:
        """f L, ``(d_out, k)``."""
        return self.left.matrix(then=self.factor)

    @cached_property
    def A(self) -> Tensor:
        """Rᵀ, ``(k, d_in)``."""
        return self.right.matrix().T

    @property
    def shape(self) -> tuple[int, int]:
        """``(d_out, d_in)`` of ΔW."""
        return self.left.stack.shape[0], self.right.stack.shape[0]

    @property
    def rank(self) -> int:
        """k."""
        return self.left.count

    @property
    def T(self) -> LowRank:
        """ΔWᵀ."""
        return FactoredUpdate(self.right, self.left) if self.factor == 1.0 else LowRank(self.A.T, self.B.T)

    def to(self, dtype: torch.dtype) -> LowRank:
        """The factors, rounded to ``dtype``."""
        if dtype == torch.float64:
            return LowRank(self.B, self.A)
        return LowRank(self.left.matrix(dtype, then=self.factor), self.right.matrix(dtype).T)

    def scaled(self, factor: float) -> LowRank:
        """factor · ΔW. It multiplies what L rounds to, as it would with L at hand, to the same bits."""
        if factor == 1.0 or self.factor != 1.0:
            return super().scaled(factor)
        return FactoredUpdate(self.left, self.right, factor)

    def products(self) -> tuple[Tensor, Tensor]:
        """Bᵀ L f and A R, ``(R, k)``: what every inner product with the stack's updates is made of."""
        return self.left.products * self.factor, self.right.products

    def norm(self) -> float:
        """‖ΔW‖_F. Where the terms cancel, products would lose it, and it is computed from the factors."""
        left, right = self.left.own, self.right.own
        square = float((left * right).sum())
        terms = float(torch.linalg.matrix_norm(left) * torch.linalg.matrix_norm(right))
        return abs(self.factor) * math.sqrt(square) if square > _CANCELLED * terms else super().norm()

    def balanced(self) -> LowRank:
        """:meth:`LowRank.balanced`, from the lengths that the columns' products tell unless they cancel."""
        b, a = self.left.own.diagonal(), self.right.own.diagonal()
        lost = (b < _CANCELLED * self.left.squares()) | (a < _CANCELLED * self.right.squares())
        if bool(lost.any()):
            return super().balanced()
        even = evening(b.sqrt() * abs(self.factor), a.sqrt())
        return FactoredUpdate(self.left.stretched(even), self.right.stretched(1 / even), self.factor)
