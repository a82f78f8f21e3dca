"""FactorStack: LoRA factors side by side in the type they are stored in; blocked products, Gram matrix, QR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, reduce
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from prefdelta.linalg.thinqr import ThinQr, cholesky_triangle, householder, solve

_PANEL = 1 << 17  # numbers in float64 at once: 1 MiB, about what a processor core's cache holds
_LARGE = 1e18  # coefficients from here on are multiplied in float64: float32 ends at 3e38
_STRIP = 64  # columns of a cross product computed at once; only blocks on and below the diagonal are


class FactorStack:
    """The matrix M = [f₁M₁ … f_N M_N] ``(d, R)``, float64 in all that it gives out.

    The blocks stay as they were read, in 16 bits mostly. A product converts a panel of rows, which fits a cache,
    and is done with it before the next: that is several times quicker than converting whole factors first.

    Products of M with itself, whose errors a decomposition magnifies, are computed in float64. Products with another
    matrix are computed in float32 where all blocks are of 16 bits, 8 or 11 of them significant: an error of 1e-6 is a
    thousandth of what such a factor has been rounded by. Else they are in float64 too.

    Attributes:
        spans: the columns that belong to each block.

    Args:
        blocks: the Mᵢ, ``(d, rᵢ)``, of any float type; transposed ones are given as Mᵢᵀ, ``(rᵢ, d)``.
        factors: the fᵢ.
        transposed: whether the blocks are given as Mᵢᵀ, as the A of a LoRA is.
    """

    def __init__(self, blocks: Sequence[Tensor], factors: Sequence[float], *, transposed: bool) -> None:
        self._blocks = list(blocks)
        self._factors = list(factors)
        self._transposed = transposed
        widths = [block.shape[0 if transposed else 1] for block in blocks]
        self.spans = tuple(slice(start, end) for start, end in pairwise(accumulate(widths, initial=0)))
        self._own: list[Tensor] = []
        self._towards: dict[int, Tensor] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """``(d, R)``."""
        return self._blocks[0].shape[1 if self._transposed else 0], self.spans[-1].stop

    @cached_property
    def factors(self) -> Tensor:
        """f, one per column, ``(R,)``."""
        return self.spread(torch.tensor(self._factors, dtype=torch.float64))

    def spread(self, values: Tensor) -> Tensor:
        """One value per block as one per column, ``(R,)``."""
        return values.repeat_interleave(torch.tensor([span.stop - span.start for span in self.spans]))

    @cached_property
    def dense(self) -> Tensor:
        """M itself."""
        side_by_side = torch.cat(self._blocks, dim=0 if self._transposed else 1).to(torch.float64)
        return (side_by_side.T if self._transposed else side_by_side) * self.factors

    def block(self, index: int, dtype: torch.dtype) -> Tensor:
        """fᵢMᵢ for one block, ``(d, rᵢ)``."""
        block = self._blocks[index].to(dtype)
        columns = block.T if self._transposed else block
        return columns if self._factors[index] == 1.0 else columns * self._factors[index]

    def only(self, index: int) -> FactorStack:
        """The matrix of one block, fᵢMᵢ."""
        return FactorStack([self._blocks[index]], [self._factors[index]], transposed=self._transposed)

    @property
    def dtypes(self) -> set[torch.dtype]:
        """The types that the blocks are stored in."""
        return {block.dtype for block in self._blocks}

    @property
    def _widest(self) -> torch.dtype:
        return reduce(torch.promote_types, self.dtypes)

    @property
    def working(self) -> torch.dtype:
        """The type that products with other matrices are computed in."""
        return torch.float32 if all(dtype.itemsize <= 2 for dtype in self.dtypes) else torch.float64

    def _panels(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """The rows of M without its factors, one panel after the other."""
        height, width = self.shape
        step = max(1, _PANEL // max(width, 1))
        for start in range(0, height, step):
            rows = slice(start, start + step)
            if self._transposed:
                yield rows, torch.cat([block[:, rows] for block in self._blocks], dim=0).to(dtype).T
            else:
                yield rows, torch.cat([block[rows] for block in self._blocks], dim=1).to(dtype)

    def _contiguous_panels(self) -> Iterator[Tensor]:
        """The same in float64 and with rows that are contiguous, which products of columns are quicker with."""
        for _, panel in self._panels(self._widest if self._transposed else torch.float64):
            yield panel.to(torch.float64, memory_format=torch.contiguous_format)

    def _rows(self) -> Iterator[slice]:
        """The rows, in pieces of which two blocks at a time fit a cache, however many blocks there are."""
        widest = max(span.stop - span.start for span in self.spans)
        step = max(1, _PANEL // max(2 * widest, 1))
        for start in range(0, self.shape[0], step):
            yield slice(start, start + step)

    def _part(self, index: int, rows: slice) -> Tensor:
        """Some rows of a block as it is stored, without its factor."""
        block = self._blocks[index]
        return block[:, rows].T if self._transposed else block[rows]

    @cached_property
    def gram(self) -> Tensor:
        """MᵀM, ``(R, R)``, about half of it by symmetry."""
        width = self.shape[1]
        products = torch.zeros(width, width, dtype=torch.float64)
        for panel in self._contiguous_panels():
            for start in range(0, width, _STRIP):
                strip, until = slice(start, start + _STRIP), slice(start + _STRIP)
                products[strip, until].addmm_(panel[:, strip].T, panel[:, until])
        return _symmetric(products) * torch.outer(self.factors, self.factors)

    @property
    def gram_is_known(self) -> bool:
        """Whether :attr:`gram` has been computed, so that what follows from it costs little."""
        return "gram" in self.__dict__

    @property
    def own(self) -> list[Tensor]:
        """The products MᵢᵀMᵢ of each block with itself, ``(rᵢ, rᵢ)``."""
        if self.gram_is_known:
            return [self.gram[span, span] for span in self.spans]
        self.towards(next(iter(self._towards), 0))
        return self._own

    def towards(self, index: int) -> Tensor:
        """MᵀMᵢ for one block, ``(R, rᵢ)``; it and :attr:`own` cost no more than in proportion to R."""
        if self.gram_is_known:
            return self.gram[:, self.spans[index]]
        if index not in self._towards:
            self._own, self._towards[index] = self._star(index)
        return self._towards[index]

    def _star(self, index: int) -> tuple[list[Tensor], Tensor]:
        """Every block's products with itself, and those of all with one, in one pass."""
        center = self.spans[index]
        own = [torch.zeros(span.stop - span.start, span.stop - span.start, dtype=torch.float64) for span in self.spans]
        products = torch.zeros(self.shape[1], center.stop - center.start, dtype=torch.float64)
        for rows in self._rows():
            middle = self._part(index, rows).to(torch.float64, memory_format=torch.contiguous_format)
            products[center].addmm_(middle.T, middle)
            for place, (span, block) in enumerate(zip(self.spans, own, strict=True)):
                if place != index:
                    part = self._part(place, rows).to(torch.float64, memory_format=torch.contiguous_format)
                    products[span].addmm_(part.T, middle)
                    block.addmm_(part.T, part)
        products *= torch.outer(self.factors, self.factors[center])
        for span, block in zip(self.spans, own, strict=True):
            block *= torch.outer(self.factors[span], self.factors[span])
        own[index] = products[center] = _symmetric(products[center])
        return [_symmetric(block) for block in own], products

    def times(self, columns: Tensor, dtype: torch.dtype = torch.float64, *, then: float = 1.0) -> Tensor:
        """M C times the number ``then``, ``(d, k)``, rounded to ``dtype``.

        C is ``(R, k)``, or ``(R,)`` for a diagonal matrix.
        """
        scaled = columns * (self.factors if columns.ndim == 1 else self.factors[:, None])
        # Over tiny factors, which 16-bit types hold, coefficients may be large.
        working = self.working if bool((scaled.abs() < _LARGE).all()) else torch.float64
        scaled = scaled.to(working)
        shape = (self.shape[0], columns.shape[-1])
        product = torch.empty(shape[::-1], dtype=dtype).T if self._transposed else torch.empty(shape, dtype=dtype)
        for rows, panel in self._panels(working):
            part = self._multiplied(panel, scaled)
            product[rows] = part if then == 1.0 else part.mul_(then)
        return product

    def _multiplied(self, panel: Tensor, columns: Tensor) -> Tensor:
        if columns.ndim == 1:
            return panel * columns
        return (columns.T @ panel.T).T if self._transposed else panel @ columns  # in the order of the result's memory

    def against(self, columns: Tensor) -> Tensor:
        """Mᵀ C for a C ``(d, k)``, ``(R, k)``."""
        products = torch.zeros(self.shape[1], columns.shape[1], dtype=torch.float64)
        other = columns.to(self.working)
        for rows in self._rows():
            piece = other[rows].contiguous()  # else the products would be several times slower
            for place, span in enumerate(self.spans):
                products[span] += self._part(place, rows).to(self.working).T @ piece
        return products * self.factors[:, None]

    @cached_property
    def _triangle(self) -> Tensor | None:
        return cholesky_triangle(self.gram) if self.shape[1] <= self.shape[0] else None

    @cached_property
    def _householder(self) -> ThinQr:
        return householder(self.dense)

    @property
    def qr(self) -> ThinQr:
        """M = Q R; through MᵀM where that is safe (:mod:`prefdelta.linalg.thinqr`).

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


def _symmetric(products: Tensor) -> Tensor:
    """The same bits above the diagonal as below it."""
    lower = products.tril()
    return lower + lower.tril(-1).T
