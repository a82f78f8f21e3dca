"""Ways through the space of candidates, each a pure function of an objective.

A merge of other adapters wants another scale: the average of four unlike updates holds a quarter of each, the average
of two a half. So sets of adapters are compared each at its own best scale, never at a common one.

Of equal scores the first tried wins, so that the result does not depend on chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from prefdelta.merging.scale import Scale
from prefdelta.merging.tuning.candidate import Candidate, Score
from prefdelta.merging.tuning.line_search import maximise

_FIRST_STEP, _LAST_STEP = 2.0, 1.1


@dataclass(frozen=True)
class Search:
    """A search over log λ of every merge by itself, instead of a list of λ.

    Attributes:
        start: the λ of a merge around which to look; one that gives all merges one norm makes their ranges alike.
        budget: at most how many λ of one merge are scored.
    """

    start: Callable[[Candidate], float]
    budget: int


def best_scale(score: Score, merge: Candidate, scales: Sequence[Scale] | Search) -> Candidate:
    """The merge at its best λ; the first of equals in a list, the smallest in a search."""
    if isinstance(scales, Search):
        return merge.at(maximise(lambda scale: score(merge.at(scale)), scales.start(merge), scales.budget))
    return max((merge.at(scale) for scale in scales), key=score)


def grid(
    score: Score,
    members: Iterable[int],
    methods: Sequence[str],
    scales: Sequence[Scale] | Search,
    weights: tuple[float, ...] | None = None,
) -> Candidate:
    """The best of all methods, each at its best scale, for one set of adapters, at weights 1 if none are given."""
    ordered = tuple(sorted(members))
    fixed = weights or (1.0,) * len(ordered)
    return max((best_scale(score, Candidate(ordered, fixed, method, 1.0), scales) for method in methods), key=score)


def greedy(score: Score, count: int, method: str, scales: Sequence[Scale] | Search) -> tuple[Candidate, ...]:
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


def leave_one_out(score: Score, whole: Candidate, scales: Sequence[Scale] | Search) -> dict[int, Candidate]:
    """By member of ``whole``: the merge without it, at its best scale. Empty where nothing would be left."""
    if len(whole.members) == 1:
        return {}
    return {member: best_scale(score, whole.without(member), scales) for member in whole.members}


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
