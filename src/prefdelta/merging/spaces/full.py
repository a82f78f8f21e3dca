"""The entries of ΔW themselves, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks, best_rank
from prefdelta.merging.registry import Merged, Options
from prefdelta.merging.rules.stream import Stream
from prefdelta.merging.spaces.space import Coordinates, Space

_HELD = 256 << 20  # bytes up to which a merged matrix is kept rather than computed again in every pass


class FullOptions(Options):
    """``rank`` of the result, which is the best approximation at that rank; the sum of the ranks if left out."""

    rank: int | None = Field(default=None, gt=0)


def enter(deltas: Sequence[LowRank], options: FullOptions) -> Coordinates:
    """Coordinates are the entries of ΔW; the way back is the best approximation of limited rank.

    Cost: O(N r d_out d_in) for each pass over the blocks, of which a rule makes one to six.
    """
    rank = options.rank or sum(delta.rank for delta in deltas)

    def back(merged: RowBlocks) -> Merged:
        delta, kept = best_rank(merged.kept_if_small(_HELD), rank)
        return Merged(delta, {"kept_energy": kept})

    return Coordinates(Stream.products(deltas, torch.float32), back)


FULL = Space("", "entry by entry of ΔW", "", FullOptions, enter, pairs=False)
