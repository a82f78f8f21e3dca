"""What a space is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from prefdelta.lowrank import LowRank
from prefdelta.merging.bestrank import RowBlocks
from prefdelta.merging.registry import Merged, Options
from prefdelta.merging.rules.stream import Stream


class Coordinates(NamedTuple):
    """Updates as arrays (``stream``), and the way back from one array of that kind to an update (``back``)."""

    stream: Stream
    back: Callable[[RowBlocks], Merged]


@dataclass(frozen=True)
class Space:
    """A kind of coordinates for the updates of one module.

    The map from updates to coordinates is linear and one to one on the span of the updates (except where a space
    says that it compresses), and a function of the ΔW's, not of their factors.

    Attributes:
        prefix: what it adds to a method's name.
        summary: where the entries are combined, to follow a rule's summary.
        paper: where it comes from; empty for the plain entries of ΔW.
        options: the model of its options.
        enter: ``enter(deltas, options)``, for at least one update that is not zero.
        pairs: whether entering takes the products of all pairs of updates.
    """

    prefix: str
    summary: str
    paper: str
    options: type[Options]
    enter: Callable[[Sequence[LowRank], Any], Coordinates]
    pairs: bool = True
