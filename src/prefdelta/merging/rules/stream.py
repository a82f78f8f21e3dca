"""Coordinates of several updates, walked in blocks of rows, and exact order statistics over such a walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_CACHED = 1 << 19  # bytes of all arrays together: half a MiB, so that two such blocks fit a core's cache
_DIGIT = 16  # bits sorted in one pass over the values


class Block(NamedTuple):
    """Rows ``row`` to ``row + b`` of N arrays: ``values`` is ``(N, b, columns)``."""

    row: int
    values: Tensor


@dataclass(frozen=True)
class Stream:
    """N arrays of one shape that can be walked again and again, always in the same order.

    Attributes:
        shape: (N, rows, columns).
        walk: starts a pass over the blocks.
        values: all of it, where it is in memory.
    """

    shape: tuple[int, int, int]
    walk: Callable[[], Iterator[Block]]
    values: Tensor | None = None

    @staticmethod
    def of(values: Tensor) -> Stream:
        """A stream of arrays in memory, ``(N, rows, columns)``, in blocks that fit a processor's cache."""
        count, rows, columns = values.shape
        height = max(1, _CACHED // max(values.itemsize * count * columns, 1))

        def walk() -> Iterator[Block]:
            for row in range(0, max(rows, 1), height):
                yield Block(row, values[:, row : row + height])

        return Stream((count, rows, columns), walk, values)

    def largest_magnitudes(self, places: Sequence[int]) -> Tensor:
        """The magnitudes at ``places`` (1 = largest) of each array, ``(N, len(places))``, exactly."""
        if self.values is None:
            return largest_magnitudes(lambda: (block.values for block in self.walk()), places)
        size = self.values[0].numel()
        buffer = torch.empty(self.values.shape[1:], dtype=self.values.dtype)  # fresh memory costs more than the work
        magnitudes = buffer.reshape(-1).numpy()
        found = []
        for array in self.values:
            torch.abs(array, out=buffer)
            magnitudes.partition([size - place for place in sorted(set(places), reverse=True)])
            found.append(torch.tensor([magnitudes[size - place] for place in places], dtype=array.dtype))
        return torch.stack(found)


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
