"""Ways through the space of candidates, each a pure function of an objective.

A merge of other adapters wants another scale: the average of four unlike updates holds a quarter of each, the average
of two a half. So sets of adapters are compared each at its own best scale, never at a common one.

Of equal scores the first tried wins, so that the result does not depend on chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prefdelta.choosing.candidate import Candidate, Score
from prefdelta.merging.scale import Scale

_FIRST_STEP, _LAST_STEP = 2.0, 1.1


def grid(score: Score, members: Iterable[int], methods: Sequence[str], scales: Sequence[Scale]) -> Candidate:
    """The best of all methods at all scales, for one set of adapters at weights 1."""
    everyone = tuple(members)
    return max((Candidate.plain(everyone, method, scale) for method in methods for scale in scales), key=score)


def greedy(score: Score, count: int, method: str, scales: Sequence[Scale]) -> tuple[Candidate, ...]:
    """Forward selection: the best single adapter, then again and again the adapter that helps most, while any helps.

    Returns the accepted sets, each at its best scale. At most count (count + 1) / 2 sets are tried.

    Source: the greedy soup of arXiv 2203.05482 (there over fine-tuned weights).
    """
    steps: list[Candidate] = []
    while len(steps) < count:
        inside = steps[-1].members if steps else ()
        outside = [member for member in range(count) if member not in inside]
        best = max((grid(score, (*inside, member), [method], scales) for member in outside), key=score)
        if steps and score(best) <= score(steps[-1]):
            break
        steps.append(best)
    return tuple(steps)


def leave_one_out(score: Score, whole: Candidate, scales: Sequence[Scale]) -> dict[int, Candidate]:
    """By member of ``whole``: the merge without it, at its best scale. Empty where nothing would be left."""
    if len(whole.members) == 1:
        return {}
    return {member: max((whole.without(member, scale) for scale in scales), key=score) for member in whole.members}


def tune_weights(score: Score, start: Candidate, trials: int) -> Candidate:
    """Change one weight at a time, up and down by a factor, and keep what helps; at most ``trials`` candidates.

    The factor is 2 at first and becomes its root whenever a round over all weights has changed nothing; the search
    ends when it falls below 1.1. Weights keep their signs.

    Source: Hooke and Jeeves, "Direct search", J. ACM 8 (1961), its exploratory moves, on log weights.
    """
    best, step, left = start, _FIRST_STEP, trials if len(start.members) > 1 else 0
    while step > _LAST_STEP:
        before = best
        for place in range(len(start.weights)):
            for factor in (step, 1 / step):
                if left == 0:
                    return best
                left -= 1
                weights = list(best.weights)
                weights[place] *= factor
                moved = replace(best, weights=tuple(weights))
                if score(moved) > score(best):
                    best = moved
                    break
        if best == before:
            step = math.sqrt(step)
    return best
