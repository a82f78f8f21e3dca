"""One factor of a merged update, by what is known of it beside the stacked factors it was made from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from prefdelta.merging.tall import Tall


class Columns(ABC):
    """A matrix ``(d, k)``, whose products with a tall matrix M ``(d, R)`` of as many rows will be asked for.

    Attributes:
        tall: M.
    """

    tall: Tall

    @property
    @abstractmethod
    def count(self) -> int:
        """k."""

    @abstractmethod
    def matrix(self, dtype: torch.dtype = torch.float64, *, then: float = 1.0) -> Tensor:
        """The matrix itself times the number ``then``, rounded to ``dtype``."""

    @abstractmethod
    def stretched(self, factors: Tensor) -> Columns:
        """Each column times its factor."""

    @property
    @abstractmethod
    def products(self) -> Tensor:
        """Mᵀ times the matrix, ``(R, k)``."""

    @property
    @abstractmethod
    def own(self) -> Tensor:
        """The products of the columns with one another, ``(k, k)``."""

    @abstractmethod
    def squares(self) -> Tensor:
        """The squared length that every column would have if nothing in it cancelled, ``(k,)``."""


class Combination(Columns):
    """M X: combinations of M's columns, which come to exist only if someone asks for them.

    Its products follow from MᵀM and small matrices.

    Args:
        tall: M.
        X: ``(R, k)``, or ``(R,)`` for a diagonal matrix.
    """

    def __init__(self, tall: Tall, X: Tensor) -> None:
        self.tall = tall
        self.X = X

    @property
    def count(self) -> int:
        """k."""
        return self.X.shape[-1]

    def matrix(self, dtype: torch.dtype = torch.float64, *, then: float = 1.0) -> Tensor:
        """See :meth:`Columns.matrix`; rounded once."""
        return self.tall.times(self.X, dtype, then=then)

    def stretched(self, factors: Tensor) -> Combination:
        """See :meth:`Columns.stretched`."""
        return Combination(self.tall, self.X * factors)

    @cached_property
    def products(self) -> Tensor:
        """MᵀM X."""
        return _by(self.tall.gram, self.X)

    @cached_property
    def own(self) -> Tensor:
        """XᵀMᵀM X."""
        return _by(self.products.T, self.X)

    def squares(self) -> Tensor:
        """See :meth:`Columns.squares`."""
        lengths = self.tall.gram.diagonal().clamp(min=0).sqrt()
        return _by(lengths, self.X.abs()).square()


class Given(Columns):
    """Columns that are there, in float32 or float64."""

    def __init__(self, tall: Tall, columns: Tensor) -> None:
        self.tall = tall
        self._columns = columns

    @property
    def count(self) -> int:
        """k."""
        return self._columns.shape[1]

    def matrix(self, dtype: torch.dtype = torch.float64, *, then: float = 1.0) -> Tensor:
        """See :meth:`Columns.matrix`."""
        return (self._columns if then == 1.0 else self._columns * then).to(dtype)

    def stretched(self, factors: Tensor) -> Given:
        """See :meth:`Columns.stretched`."""
        return Given(self.tall, self._columns * factors.to(self._columns.dtype))

    @cached_property
    def products(self) -> Tensor:
        """Mᵀ times the columns."""
        return self.tall.against(self._columns)

    @cached_property
    def own(self) -> Tensor:
        """See :meth:`Columns.own`."""
        return (self._columns.T @ self._columns).to(torch.float64)

    def squares(self) -> Tensor:
        """The squared lengths: there is nothing to cancel."""
        return self.own.diagonal()


def _by(matrix: Tensor, columns: Tensor) -> Tensor:
    """M C, where a vector C stands for a diagonal matrix."""
    return matrix * columns if columns.ndim == 1 else matrix @ columns
