"""The entries of ΔW themselves, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field

from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks, best_rank
from prefdelta.merging.registry import Merged, Options
from prefdelta.merging.rules.stream import Block, Stream
from prefdelta.merging.spaces.space import Coordinates, Space

_BLOCK = 1 << 22  # entries of all updates together in one block: 16 MiB
_HELD = 256 << 20  # bytes up to which a merged matrix is kept rather than computed again in every pass


class FullOptions(Options):
    """``rank`` of the result, which is the best approximation at that rank; the sum of the ranks if left out."""

    rank: int | None = Field(default=None, gt=0)


def rows_of(deltas: Sequence[LowRank], dtype: torch.dtype = torch.float32) -> Stream:
    """The dense updates as a stream of row blocks of bounded size, computed anew in every walk."""
    rows, columns = deltas[0].shape
    factors = [delta.to(dtype) for delta in deltas]
    height = max(1, _BLOCK // (len(deltas) * columns))

    def walk() -> Iterator[Block]:
        for row in range(0, rows, height):
            yield Block(row, torch.stack([delta.B[row : row + height] @ delta.A for delta in factors]))

    return Stream((len(deltas), rows, columns), walk)


def enter(deltas: Sequence[LowRank], options: FullOptions) -> Coordinates:
    """Coordinates are the entries of ΔW; the way back is the best approximation of limited rank.

    Cost: O(N r d_out d_in) for each pass over the blocks, of which a rule makes one to six.
    """
    rank = options.rank or sum(delta.rank for delta in deltas)

    def back(merged: RowBlocks) -> Merged:
        delta, kept = best_rank(merged.kept_if_small(_HELD), rank)
        return Merged(delta, {"kept_energy": kept})

    return Coordinates(rows_of(deltas), back)


FULL = Space("", "entry by entry of ΔW", "", FullOptions, enter)
