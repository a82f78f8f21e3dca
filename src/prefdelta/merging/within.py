"""Updates whose factors are combinations of a stack's, computed only when they are needed, and in the type needed."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from prefdelta.lowrank import LowRank, evening
from prefdelta.merging.tall import Tall

_CANCELLED = 1e-5  # a squared norm below this share of its terms has lost too many digits


class Within(LowRank):
    """The update f · B X Yᵀ A over the factors B and A of a stack.

    Its norm and products are known from small matrices, and it goes straight into the type it is stored in: the
    factors in float64 come to exist only if someone asks for them.

    Attributes:
        outputs: B.
        inputs: Aᵀ.
        X: ``(R, k)``, or ``(R,)`` for a diagonal matrix.
        Y: as X.
        factor: f.
    """

    outputs: Tall
    inputs: Tall
    X: Tensor
    Y: Tensor
    factor: float

    def __init__(self, outputs: Tall, inputs: Tall, X: Tensor, Y: Tensor, factor: float = 1.0) -> None:
        # The dataclass is frozen, and its own fields are computed here.
        self.__dict__.update(outputs=outputs, inputs=inputs, X=X, Y=Y, factor=factor)

    @cached_property
    def B(self) -> Tensor:
        """f B X, ``(d_out, k)``."""
        return self.outputs.times(self.X, then=self.factor)

    @cached_property
    def A(self) -> Tensor:
        """Yᵀ A, ``(k, d_in)``."""
        return self.inputs.times(self.Y).T

    @property
    def shape(self) -> tuple[int, int]:
        """``(d_out, d_in)`` of ΔW."""
        return self.outputs.shape[0], self.inputs.shape[0]

    @property
    def rank(self) -> int:
        """k."""
        return self.X.shape[-1]

    @property
    def T(self) -> LowRank:
        """ΔWᵀ."""
        return LowRank(self.A.T, self.B.T)

    def to(self, dtype: torch.dtype) -> LowRank:
        """The factors, computed in float64 and rounded to ``dtype``."""
        if dtype == torch.float64:
            return LowRank(self.B, self.A)
        return LowRank(self.outputs.times(self.X, dtype, then=self.factor), self.inputs.times(self.Y, dtype).T)

    def scaled(self, factor: float) -> LowRank:
        """factor · ΔW. It multiplies what B X rounds to, as it would with B X at hand, to the same bits."""
        if factor == 1.0 or self.factor != 1.0:
            return super().scaled(factor)
        return Within(self.outputs, self.inputs, self.X, self.Y, factor)

    def products(self) -> tuple[Tensor, Tensor]:
        """BᵀB X f and AAᵀ Y, ``(R, k)``: what every inner product with the stack's updates is made of."""
        left, right = self._products
        return left * self.factor, right

    def norm(self) -> float:
        """‖ΔW‖_F. Where the terms cancel, products would lose it, and it is computed from the factors."""
        left, right = self._grams
        square = float((left * right).sum())
        terms = float(torch.linalg.matrix_norm(left) * torch.linalg.matrix_norm(right))
        return abs(self.factor) * math.sqrt(square) if square > _CANCELLED * terms else super().norm()

    def balanced(self) -> LowRank:
        """:meth:`LowRank.balanced`, from the lengths that the columns' products tell unless they cancel."""
        b, a = (gram.diagonal() for gram in self._grams)
        lost = (b < _CANCELLED * _terms(self.outputs, self.X)) | (a < _CANCELLED * _terms(self.inputs, self.Y))
        if bool(lost.any()):
            return super().balanced()
        even = evening(b.sqrt() * abs(self.factor), a.sqrt())
        return Within(self.outputs, self.inputs, self.X * even, self.Y / even, self.factor)

    @cached_property
    def _products(self) -> tuple[Tensor, Tensor]:
        return _by(self.outputs.gram, self.X), _by(self.inputs.gram, self.Y)

    @cached_property
    def _grams(self) -> tuple[Tensor, Tensor]:
        """XᵀBᵀB X and YᵀAAᵀ Y, ``(k, k)``."""
        left, right = self._products
        return _by(left.T, self.X), _by(right.T, self.Y)


def _by(matrix: Tensor, columns: Tensor) -> Tensor:
    """M C, where a vector C stands for a diagonal matrix."""
    return matrix * columns if columns.ndim == 1 else matrix @ columns


def _terms(columns: Tall, combined: Tensor) -> Tensor:
    """The squared length that every combined column would have if nothing in it cancelled."""
    lengths = columns.gram.diagonal().clamp(min=0).sqrt()
    return _by(lengths, combined.abs()).square()
