"""A candidate merge: method, options, scale, members and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from prefdelta.merging.scale import Scale


@dataclass(frozen=True)
class Candidate:
    """A merge of some of the adapters.

    Attributes:
        members: positions of the adapters that take part, ascending.
        weights: one per member; the method says what they mean.
        method: the merge method.
        scale: λ, or a rule for it.
    """

    members: tuple[int, ...]
    weights: tuple[float, ...]
    method: str
    scale: Scale

    @staticmethod
    def plain(members: Iterable[int], method: str, scale: Scale) -> Candidate:
        """The merge of these adapters at weights 1."""
        ordered = tuple(sorted(members))
        return Candidate(ordered, (1.0,) * len(ordered), method, scale)

    def place(self) -> tuple[Candidate, Scale]:
        """λ, after what is tried at several λ: the members and the method."""
        return Candidate.plain(self.members, self.method, 1.0), self.scale

    def at(self, scale: Scale) -> Candidate:
        """The same merge at another scale."""
        return replace(self, scale=scale)

    def without(self, member: int) -> Candidate:
        """The same merge without one adapter; the others keep their weights."""
        kept = [(who, weight) for who, weight in zip(self.members, self.weights, strict=True) if who != member]
        return Candidate(tuple(who for who, _ in kept), tuple(weight for _, weight in kept), self.method, self.scale)


Score = Callable[[Candidate], float]
"""The objective: larger is better. It should remember what it has scored, since strategies may ask twice."""
