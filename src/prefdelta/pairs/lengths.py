"""Length bias: whether the chosen answers are simply the longer ones, and what can be done about it.

Lengths are characters that the model itself wrote; they need no tokenizer and mean something in every language.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefdelta.core.records import Pair

_BUCKET = math.log(1.25)
"""Width of the buckets of :func:`balanced`: lengths whose ratios are within 25 % of each other count as alike."""


@dataclass(frozen=True)
class LengthBias:
    """Lengths of the two sides, in characters.

    ``chosen_longer`` and ``rejected_longer`` are shares of the pairs (what is missing to 1 is equally long);
    ``log_ratio`` is the mean of log(chosen / rejected), with one character added to both.
    """

    chosen: float
    rejected: float
    chosen_longer: float
    rejected_longer: float
    log_ratio: float


def length_bias(pairs: Sequence[Pair]) -> LengthBias:
    """The bias of some pairs; all 0 if there are none."""
    if not pairs:
        return LengthBias(0.0, 0.0, 0.0, 0.0, 0.0)
    sides = [(len(pair.chosen.own_text), len(pair.rejected.own_text)) for pair in pairs]
    count = len(sides)
    return LengthBias(
        chosen=sum(chosen for chosen, _ in sides) / count,
        rejected=sum(rejected for _, rejected in sides) / count,
        chosen_longer=sum(chosen > rejected for chosen, rejected in sides) / count,
        rejected_longer=sum(chosen < rejected for chosen, rejected in sides) / count,
        log_ratio=math.fsum(log_ratio(pair) for pair in pairs) / count,
    )


def log_ratio(pair: Pair) -> float:
    """log((chosen + 1) / (rejected + 1)); the ones keep an empty answer finite."""
    # A difference of logs, and not the log of a quotient, changes exactly its sign when the sides are swapped.
    return math.log(len(pair.chosen.own_text) + 1) - math.log(len(pair.rejected.own_text) + 1)


def within_ratio(pair: Pair, limit: float) -> bool:
    """Whether the longer answer has at most ``limit`` times the characters of the shorter one."""
    return abs(log_ratio(pair)) <= math.log(limit) + 1e-9


def balanced(pairs: Sequence[Pair]) -> list[bool]:
    """Which pairs to keep so that the chosen answer is the longer one as often as the shorter one.

    Pairs fall into buckets by |log ratio| of their lengths; of each bucket as many are kept on either side as there are
    on the rarer one. So the differences in length, and not only their signs, are alike on both sides. Which ones are
    kept goes by a hash of the pair's id; pairs of equal length are all kept.
    """
    sides: dict[int, tuple[list[int], list[int]]] = {}
    keep = [False] * len(pairs)
    for place, pair in enumerate(pairs):
        ratio = log_ratio(pair)
        if ratio == 0:
            keep[place] = True
        else:
            sides.setdefault(int(abs(ratio) / _BUCKET + 1e-9), ([], []))[ratio > 0].append(place)
    for shorter, longer in sides.values():
        count = min(len(shorter), len(longer))
        for side in (shorter, longer):
            for place in sorted(side, key=lambda place: (hashlib.sha256(pairs[place].id.encode()).digest(), place))[
                :count
            ]:
                keep[place] = True
    return keep
