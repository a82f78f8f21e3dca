"""Merged updates that remember what they were made of, so that little of them has to be computed."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from prefdelta.lowrank import LowRank, evening
from prefdelta.merging.columns import Columns

_CANCELLED = 1e-5  # a squared norm below this share of its terms has lost too many digits


class Within(LowRank):
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
        return self.left.tall.shape[0], self.right.tall.shape[0]

    @property
    def rank(self) -> int:
        """k."""
        return self.left.count

    @property
    def T(self) -> LowRank:
        """ΔWᵀ."""
        return Within(self.right, self.left) if self.factor == 1.0 else LowRank(self.A.T, self.B.T)

    def to(self, dtype: torch.dtype) -> LowRank:
        """The factors, rounded to ``dtype``."""
        if dtype == torch.float64:
            return LowRank(self.B, self.A)
        return LowRank(self.left.matrix(dtype, then=self.factor), self.right.matrix(dtype).T)

    def scaled(self, factor: float) -> LowRank:
        """factor · ΔW. It multiplies what L rounds to, as it would with L at hand, to the same bits."""
        if factor == 1.0 or self.factor != 1.0:
            return super().scaled(factor)
        return Within(self.left, self.right, factor)

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
        return Within(self.left.stretched(even), self.right.stretched(1 / even), self.factor)
