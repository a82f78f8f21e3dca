"""Which answers make a pair: by who gave them, or by their scores.

A rule proposes pairs and counts the answers that made none. Filters come after it. Another package adds a rule by an
entry point of the group ``prefdelta.pairing_rules``; see ``docs/extending.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prefdelta.core.config import Config
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Pair, Sample, alike
from prefdelta.core.registry import NoOptions, Registry, find_configured
from prefdelta.pairs.candidates import Candidate, Pool, best, worst
from prefdelta.recipe import Pairing


@dataclass
class Proposal:
    """The pairs that a rule proposes, and how many it did not, by reason.

    ``missing``: an item without the answers that the rule needs. ``identical``: both say the same and end the same
    way. ``tied``: both have the same score. ``small_gap``, ``large_gap``: their scores are closer or farther apart
    than asked.
    """

    pairs: list[Pair] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what made no pair."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count


def by_order(items: Sequence[Item], chosen: Sequence[Sample], rejected: Sequence[Sample]) -> Proposal:
    """Bigger over smaller (PDA section 4.1): answer k of one model is preferred over answer k of the other.

    Raises:
        PrefdeltaError: a side answers an item twice with one index.
    """
    sides = [_by_answer(side) for side in (chosen, rejected)]
    proposal = Proposal()
    for item in items:
        good, bad = (side.get(item.id, {}) for side in sides)
        for index in sorted(good.keys() | bad.keys() or {0}):
            if index in good and index in bad:
                _propose(proposal, item, good[index], bad[index], index)
            else:
                proposal.drop("missing")
    return proposal


def by_score(items: Sequence[Item], sources: Sequence[Pool], pairing: Pairing) -> Proposal:
    """Pair scored answers as ``pairing`` says.

    Args:
        items: the questions.
        sources: the candidates of each model: the weak and the weaker one for the rules ``order`` and ``score``, any
            number for the others. Among equal scores an earlier source comes first.
        pairing: the rule and the gaps between scores that are kept.

    Returns:
        The pairs in the order of the items.

    Raises:
        PrefdeltaError: the rule compares two models, and there are not two.
    """
    rule, options = find_configured(RULES, pairing.rule)
    if rule.one_by_one and len(sources) != 2:
        raise PrefdeltaError(f"the pairing rule {rule.name!r} compares two models; {len(sources)} are given.")
    proposal = Proposal()
    for item in items:
        found = list(rule.propose([source.get(item.id, ()) for source in sources], options))
        if not found:
            proposal.drop("missing")
        for good, bad in found:
            gap = good.score - bad.score
            if gap == 0 and not rule.ties:
                proposal.drop("tied")
            elif pairing.min_gap is not None and gap < pairing.min_gap:
                proposal.drop("small_gap")
            elif pairing.max_gap is not None and gap > pairing.max_gap:
                proposal.drop("large_gap")
            else:
                _propose(proposal, item, good.sample, bad.sample, good.sample.index if rule.one_by_one else 0)
    return proposal


Sides = Sequence[Sequence[Candidate]]
"""The scored answers of each model to one item."""

Proposed = Iterator[tuple[Candidate, Candidate]]
"""(chosen, rejected) for each pair."""


@dataclass(frozen=True)
class Rule:
    """A registered pairing rule.

    Attributes:
        name: what recipes call it.
        propose: ``(sides, options) -> (chosen, rejected)`` pairs of one item.
        options: the model of its options.
        one_by_one: whether it compares answer k of one model with answer k of another, of exactly two.
        ties: whether a pair whose answers have the same score is kept.
    """

    name: str
    propose: Callable[[Sides, Any], Proposed]
    options: type[Config]
    one_by_one: bool
    ties: bool


RULES: Registry[Rule] = Registry("pairing rule", "prefdelta.pairing_rules")

Propose = TypeVar("Propose", bound=Callable[[Sides, Any], Proposed])


def rule(
    name: str, options: type[Config] = NoOptions, *, one_by_one: bool = False, ties: bool = False
) -> Callable[[Propose], Propose]:
    """Register the decorated function as a pairing rule; the arguments are the attributes of :class:`Rule`."""
    return RULES.adding(name, lambda propose: Rule(name, propose, options, one_by_one, ties))


@rule("order", one_by_one=True, ties=True)
def _order(sides: Sides, options: NoOptions) -> Proposed:
    first, second = sides
    others = {entry.sample.index: entry for entry in second}
    for entry in first:
        if entry.sample.index in others:
            yield entry, others[entry.sample.index]


@rule("score", one_by_one=True)
def _score(sides: Sides, options: NoOptions) -> Proposed:
    for one, other in _order(sides, options):
        yield (one, other) if one.score >= other.score else (other, one)


@rule("best-worst")
def _best_worst(sides: Sides, options: NoOptions) -> Proposed:
    everything = [entry for side in sides for entry in side]
    if len(everything) > 1:
        yield best(everything), worst(everything)


@rule("same-source")
def _same_source(sides: Sides, options: NoOptions) -> Proposed:
    several = [side for side in sides if len(side) > 1]
    if several:
        side = max(several, key=lambda side: best(side).score)
        yield best(side), worst(side)


def _propose(proposal: Proposal, item: Item, good: Sample, bad: Sample, index: int) -> None:
    if alike(good, bad):
        proposal.drop("identical")
        return
    name = f"{item.id}/{index}" if index else item.id
    proposal.pairs.append(Pair(name, item.task, item.messages, good, bad))


def _by_answer(samples: Sequence[Sample]) -> dict[str, dict[int, Sample]]:
    """Item id -> index -> answer."""
    found: dict[str, dict[int, Sample]] = {}
    for sample in samples:
        found.setdefault(sample.item, {})[sample.index] = sample
    if again := len(samples) - sum(map(len, found.values())):
        raise PrefdeltaError(f"{again} answers are to an item that is answered already; keep one.")
    return found
