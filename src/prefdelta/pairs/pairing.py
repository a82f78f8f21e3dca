"""Two models' answers to the same questions become preference pairs; and what the controls make of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Pair, Sample
from prefdelta.pairs.filters import Evaluated, filter_pairs
from prefdelta.pairs.lengths import LengthBias, length_bias
from prefdelta.pairs.rules import Proposal, by_order
from prefdelta.recipe import Filters, Questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PairCounts:
    """What became of the items.

    Attributes:
        items: how many there are.
        dropped: reason -> how many pairs (or, where it made none, items) were dropped for it, in the order in which
            rule and filters look; each is counted at the first that applies.
        pairs: how many pairs are left.
        lengths_before: the length bias of the pairs that the rule proposed.
        lengths_after: that of the pairs that are left.
    """

    items: int
    dropped: Mapping[str, int]
    pairs: int
    lengths_before: LengthBias
    lengths_after: LengthBias


def make_pairs(
    items: Sequence[Item], chosen: Sequence[Sample], rejected: Sequence[Sample], filters: Filters
) -> tuple[list[Pair], PairCounts]:
    """Pair the answers to each item, in the order of the items: ``chosen``'s is preferred over ``rejected``'s.

    Who is preferred goes by which model answered, not by which answer is right (PDA section 4.1). Where there are
    several answers to an item, those with one index are paired.

    Args:
        items: the questions.
        chosen: answers of the weak model.
        rejected: answers of the weaker model.
        filters: which pairs are dropped beside identical ones.

    Raises:
        PrefdeltaError: a side answers an item twice with one index, or no pair is left; the message has the counts.
    """
    pairs, counts, _ = finish_pairs(items, by_order(items, chosen, rejected), filters)
    return pairs, counts


def finish_pairs(
    items: Sequence[Item],
    proposal: Proposal,
    filters: Filters,
    *,
    questions: Questions | None = None,
    evaluated: Evaluated | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[list[Pair], PairCounts, dict[str, list[Pair]]]:
    """Filter what a rule proposes, and count; the pairs that filters dropped come last, by reason.

    Args:
        items: the questions.
        proposal: of a rule in :mod:`prefdelta.pairs.rules`.
        filters: which pairs are dropped.
        questions: how the items were dressed, so that filters compare questions and not the words around them.
        evaluated: the questions of each evaluation set, for decontamination.
        tokenizer: the student's, for ``filters.identical_within``.

    Raises:
        PrefdeltaError: no pair is left, or a filter lacks what it needs.
    """
    pairs, lost = filter_pairs(
        proposal.pairs, filters, questions=questions, evaluated=evaluated or {}, tokenizer=tokenizer
    )
    dropped = {**proposal.dropped, **{reason: len(those) for reason, those in lost.items()}}
    if not pairs:
        told = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise PrefdeltaError(
            f"no pair is left of {len(items)} items: dropped {told or 'nothing'}; look at the answers, or change "
            "filters and pairing."
        )
    counts = PairCounts(
        items=len(items),
        dropped=dropped,
        pairs=len(pairs),
        lengths_before=length_bias(proposal.pairs),
        lengths_after=length_bias(pairs),
    )
    return pairs, counts, lost


def shuffle_labels(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """A control: each pair is reversed with probability one half. What is left to learn is not a preference."""
    flips = np.random.default_rng(seed).random(len(pairs)) < 0.5
    return [_reversed(pair) if flip else pair for pair, flip in zip(pairs, flips, strict=True)]


def reverse_labels(pairs: Sequence[Pair]) -> list[Pair]:
    """A control: in every pair the weaker model's answer is the chosen one."""
    return [_reversed(pair) for pair in pairs]


def _reversed(pair: Pair) -> Pair:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)
