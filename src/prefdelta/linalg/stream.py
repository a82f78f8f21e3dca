"""Stream: entries of several updates in blocks of rows, and exact order statistics over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from prefdelta.linalg.lowrank import LowRank

_CACHED = 1 << 23  # bytes of all arrays in one block: 8 MiB; larger ones leave the caches, smaller ones cost more calls
_HELD = 256 << 20  # bytes of one array up to which its magnitudes are ordered in memory
_DIGIT = 16  # bits sorted in one pass over the values


class Block(NamedTuple):
    """Rows ``row`` to ``row + b`` of N arrays: ``values`` is ``(N, b, columns)``.

    The values are the receiver's, to overwrite if it likes, until it asks for the next block: passes over memory that
    is fresh cost more than the work that is done in them.
    """

    row: int
    values: Tensor


@dataclass(frozen=True)
class Stream:
    """N arrays of one shape that can be walked again and again, always in the same order and to the same bits.

    Attributes:
        shape: (N, rows, columns).
        dtype: float32 or float64.
        fill: ``fill(index, rows, out)`` writes some rows of one array.
    """

    shape: tuple[int, int, int]
    dtype: torch.dtype
    fill: Callable[[int, slice, Tensor], object]

    @staticmethod
    def of(values: Tensor) -> Stream:
        """A stream of arrays that are there, ``(N, rows, columns)``."""
        count, rows, columns = values.shape
        return Stream((count, rows, columns), values.dtype, lambda index, part, out: out.copy_(values[index, part]))

    @staticmethod
    def products(deltas: Sequence[LowRank], dtype: torch.dtype) -> Stream:
        """A stream of the matrices BᵢAᵢ, which are multiplied anew in every walk."""
        factors = [delta.to(dtype) for delta in deltas]

        def fill(index: int, rows: slice, out: Tensor) -> None:
            torch.mm(factors[index].B[rows], factors[index].A, out=out)

        return Stream((len(deltas), *deltas[0].shape), dtype, fill)

    def walk(self) -> Iterator[Block]:
        """All rows, in blocks that fit a processor's cache."""
        count, _, columns = self.shape
        buffer = torch.empty(count, self._height, columns, dtype=self.dtype)
        for rows in self._pieces():
            values = buffer[:, : rows.stop - rows.start]
            for index, out in enumerate(values):
                self.fill(index, rows, out)
            yield Block(rows.start, values)

    def largest_magnitudes(self, places: Sequence[int]) -> Tensor:
        """The magnitudes at ``places`` (1 = largest) of each array, ``(N, len(places))``, exactly."""
        count, rows, columns = self.shape
        size = rows * columns
        if self.dtype.itemsize * size > _HELD:
            return largest_magnitudes(lambda: (block.values for block in self.walk()), places)
        magnitudes = torch.empty(rows, columns, dtype=self.dtype)
        flat = magnitudes.reshape(-1).numpy()
        found = torch.empty(count, len(places), dtype=self.dtype)
        for index in range(count):
            for part in self._pieces():  # those of a walk, because how many rows are multiplied may change the last bit
                self.fill(index, part, magnitudes[part])
                magnitudes[part].abs_()
            flat.partition([size - place for place in sorted(set(places), reverse=True)])
            found[index] = torch.from_numpy(flat[[size - place for place in places]])
        return found

    @property
    def _height(self) -> int:
        count, rows, columns = self.shape
        return max(1, min(rows, _CACHED // max(self.dtype.itemsize * count * columns, 1)))

    def _pieces(self) -> Iterator[slice]:
        rows = self.shape[1]
        for start in range(0, max(rows, 1), self._height):
            yield slice(start, min(start + self._height, rows))


def largest_magnitudes(walk: Callable[[], Iterator[Tensor]], places: Sequence[int]) -> Tensor:
    """The magnitudes that stand at ``places`` (1 = largest) of each array, ``(N, len(places))``, exactly.

    A radix selection: the bit patterns of non-negative floats are ordered as the floats are, so counting their
    leading 16 bits in one pass leaves a single bin per place to look at in the next. Two passes for float32, four
    for float64; memory for the counts only, whatever the number of values.

    Args:
        walk: starts a pass over blocks ``(N, ...)`` of the arrays.
        places: each between 1 and the number of values in one array.
    """
    first = next(walk())
    dtype, count = first.dtype, first.shape[0]
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    width = 8 * dtype.itemsize
    prefix = [[0] * len(places) for _ in range(count)]
    left = [list(places) for _ in range(count)]
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        bins: dict[tuple[int, int], Tensor] = {}
        for block in walk():
            bits = block.abs().contiguous().view(integer).reshape(count, -1)
            for array in range(count):
                head = bits[array] >> shift + _DIGIT if shift + _DIGIT < width else torch.zeros_like(bits[array])
                for wanted in sorted(set(prefix[array])):
                    inside = bits[array][head == wanted] if shift + _DIGIT < width else bits[array]
                    digits = (inside >> shift).bitwise_and((1 << _DIGIT) - 1).long()
                    counted = torch.bincount(digits, minlength=1 << _DIGIT)
                    bins[array, wanted] = bins[array, wanted] + counted if (array, wanted) in bins else counted
        for array in range(count):
            for place in range(len(places)):
                counts = bins[array, prefix[array][place]].flip(0).cumsum(0)
                # The first digit, from the top, at which the running count reaches the place.
                step = int(torch.searchsorted(counts, left[array][place]))
                left[array][place] -= int(counts[step - 1]) if step else 0
                prefix[array][place] = (prefix[array][place] << _DIGIT) | ((1 << _DIGIT) - 1 - step)
    return torch.tensor(prefix, dtype=integer).view(dtype)
