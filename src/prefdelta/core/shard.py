"""Shards: fixed, equal parts of a long list of requests, each of which can be made on another machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Entry = TypeVar("Entry")

SHARDS = ".shards"
"""The folder of a run directory that holds shards until they are joined."""


@dataclass(frozen=True)
class Shard:
    """One of ``count`` equal parts, counted from 0; as it is by default, the whole."""

    number: int = 0
    count: int = 1

    def of(self, entries: Sequence[Entry], together: int = 1) -> Sequence[Entry]:
        """This part of some entries, a run of neighbours; the parts in order are all entries in order.

        Args:
            entries: all of them, the same for every part.
            together: so many in a row are computed as one, in the same batches, and are never cut: what is computed in
                a part is then computed as it would be in the whole, to the last bit.
        """
        groups = group_count(len(entries), together)
        first, last = (together * (number * groups // self.count) for number in (self.number, self.number + 1))
        return entries[first:last]

    @property
    def is_last(self) -> bool:
        """Whether no part comes after it."""
        return self.number == self.count - 1


WHOLE = Shard()
"""All entries."""


def group_count(entries: int, together: int) -> int:
    """How many groups of entries there are that are computed together; the last may be smaller."""
    return -(-entries // together)
