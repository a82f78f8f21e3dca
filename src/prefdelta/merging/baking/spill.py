"""A full-rank update on disk: computed once, in blocks of its rows, and read back by rows of it or of its transpose.

A rule walks its inputs several times before it can give the first block, so a result is not computed twice; and the
weight it is added to may be stored transposed, where rows of the weight are columns of the result.
"""

from __future__ import annotations

from typing import BinaryIO

import torch
from torch import Tensor

from prefdelta.adapters.writer import tensor_bytes


class Spill:
    """One matrix in an open file.

    Args:
        handle: an empty file, which this then owns.
        shape: of the matrix as it is written.
        transposed: whether it is read as its transpose.
    """

    def __init__(self, handle: BinaryIO, shape: tuple[int, int], transposed: bool) -> None:
        self._handle = handle
        self._columns = shape[1]
        self._transposed = transposed
        self._dtype = torch.float32
        self._blocks: list[tuple[int, int]] = []  # how many rows each has, and where it begins

    def add(self, block: Tensor) -> None:
        """Append the next rows, all of one floating-point type."""
        self._dtype = block.dtype
        self._blocks.append((len(block), self._handle.tell()))
        written = block.T if self._transposed else block
        self._handle.write(tensor_bytes(written))

    def rows(self, first: int, count: int) -> Tensor:
        """Rows ``first`` to ``first + count`` of the matrix or of its transpose."""
        if not self._transposed:
            return self._read(0, first, count, self._columns)
        return torch.cat([self._read(offset, first, count, height) for height, offset in self._blocks], dim=1)

    def _read(self, offset: int, first: int, count: int, width: int) -> Tensor:
        self._handle.seek(offset + first * width * self._dtype.itemsize)
        block = bytearray(self._handle.read(count * width * self._dtype.itemsize))
        return torch.frombuffer(block, dtype=self._dtype).reshape(count, width)
