"""Factors side by side in the type they are stored in; products with them in float64, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from prefdelta.thinqr import ThinQr, cholesky_triangle, householder, solve

_PANEL = 1 << 17  # numbers in float64 at once: 1 MiB, about what a processor core's cache holds
_STRIP = 64  # columns of a cross product computed at once; only blocks on and below the diagonal are


class Tall:
    """The tall matrix M = [f₁M₁ … f_N M_N] ``(d, R)``, float64 in all that it gives out.

    The blocks stay as they were read, in 16 bits mostly. A product converts a panel of rows, which fits a cache,
    and is done with it before the next: that is several times quicker than converting whole factors first.

    Attributes:
        spans: the columns that belong to each block.
        factors: f, one per column, ``(R,)``.

    Args:
        blocks: the Mᵢ, ``(d, rᵢ)``, of any float type; lying ones are given as Mᵢᵀ, ``(rᵢ, d)``.
        factors: the fᵢ.
        lying: whether the blocks lie, as the A of a LoRA does.
    """

    def __init__(self, blocks: Sequence[Tensor], factors: Sequence[float], *, lying: bool) -> None:
        self._blocks = list(blocks)
        self._factors = list(factors)
        self._lying = lying
        widths = [block.shape[0 if lying else 1] for block in blocks]
        self.spans = tuple(slice(start, end) for start, end in pairwise(accumulate(widths, initial=0)))
        each = torch.tensor(self._factors, dtype=torch.float64)
        self.factors = each.repeat_interleave(torch.tensor(widths))

    @property
    def shape(self) -> tuple[int, int]:
        """``(d, R)``."""
        return self._blocks[0].shape[1 if self._lying else 0], self.spans[-1].stop

    @cached_property
    def dense(self) -> Tensor:
        """M itself."""
        side_by_side = torch.cat(self._blocks, dim=0 if self._lying else 1).to(torch.float64)
        return (side_by_side.T if self._lying else side_by_side) * self.factors

    def only(self, index: int) -> Tall:
        """The matrix of one block, fᵢMᵢ."""
        return Tall([self._blocks[index]], [self._factors[index]], lying=self._lying)

    def _panels(self) -> Iterator[tuple[slice, Tensor]]:
        """The rows of M without its factors, one panel after the other."""
        height, width = self.shape
        step = max(1, _PANEL // max(width, 1))
        for start in range(0, height, step):
            rows = slice(start, start + step)
            if self._lying:
                yield rows, torch.cat([block[:, rows] for block in self._blocks], dim=0).to(torch.float64).T
            else:
                yield rows, torch.cat([block[rows] for block in self._blocks], dim=1).to(torch.float64)

    @cached_property
    def gram(self) -> Tensor:
        """MᵀM, ``(R, R)``, about half of it by symmetry."""
        width = self.shape[1]
        products = torch.zeros(width, width, dtype=torch.float64)
        for _, panel in self._panels():
            for start in range(0, width, _STRIP):
                strip, until = slice(start, start + _STRIP), slice(start + _STRIP)
                products[strip, until].addmm_(panel[:, strip].T, panel[:, until])
        lower = products.tril()
        return (lower + lower.tril(-1).T) * torch.outer(self.factors, self.factors)

    def times(self, columns: Tensor, dtype: torch.dtype = torch.float64, *, then: float = 1.0) -> Tensor:
        """M C times the number ``then``, ``(d, k)``, rounded to ``dtype``.

        C is ``(R, k)``, or ``(R,)`` for a diagonal matrix.
        """
        scaled = columns * (self.factors if columns.ndim == 1 else self.factors[:, None])
        shape = (self.shape[0], columns.shape[-1])
        product = torch.empty(shape[::-1], dtype=dtype).T if self._lying else torch.empty(shape, dtype=dtype)
        for rows, panel in self._panels():
            part = self._multiplied(panel, scaled)
            product[rows] = part if then == 1.0 else part.mul_(then)
        return product

    def _multiplied(self, panel: Tensor, columns: Tensor) -> Tensor:
        if columns.ndim == 1:
            return panel * columns
        return (columns.T @ panel.T).T if self._lying else panel @ columns  # in the order of the result's memory

    def against(self, columns: Tensor) -> Tensor:
        """Mᵀ C for a C ``(d, k)``, ``(R, k)``."""
        products = torch.zeros(self.shape[1], columns.shape[1], dtype=torch.float64)
        for rows, panel in self._panels():
            products.addmm_(panel.T, columns[rows])
        return products * self.factors[:, None]

    @cached_property
    def _triangle(self) -> Tensor | None:
        return cholesky_triangle(self.gram) if self.shape[1] <= self.shape[0] else None

    @cached_property
    def _householder(self) -> ThinQr:
        return householder(self.dense)

    @property
    def qr(self) -> ThinQr:
        """M = Q R; through MᵀM where that is safe (:mod:`prefdelta.thinqr`).

        It is not kept: it refers to this matrix, and what refers to itself is not freed before the garbage collector
        comes round, which does not see how large a tensor is.
        """
        triangle = self._triangle
        if triangle is None:
            return self._householder
        return ThinQr(triangle, lambda columns: self.times(solve(triangle, columns)))

    def coefficients(self, columns: Tensor) -> Tensor | None:
        """The X with M X = Q C, Q that of :attr:`qr`; ``None`` where M is too near to dependent for it."""
        return None if self._triangle is None else solve(self._triangle, columns)
