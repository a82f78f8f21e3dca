"""The order in which candidates are tried, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prefdelta.merging.scale import Scale
from prefdelta.merging.tuning.candidate import Candidate, Score
from prefdelta.merging.tuning.choice import choose
from prefdelta.merging.tuning.space import Space
from prefdelta.merging.tuning.strategies import Search, greedy, grid, leave_one_out, tune_weights


@dataclass(frozen=True)
class Found:
    """What was tried; see :class:`prefdelta.merging.tuning.record.TuningRecord`."""

    average: Candidate | None
    singles: tuple[Candidate, ...]
    selection: tuple[Candidate, ...]
    whole: Candidate
    left_out: Mapping[int, Candidate]
    chosen: Candidate
    tried: tuple[Candidate, ...]


def tune(score: Score, count: int, space: Space, *, start: Callable[[Candidate], float] = lambda _: 1.0) -> Found:
    """Go through the space from the simple to the complex; choose the best of all that was tried, the first of equals.

    In turn: the plain average at λ = 1 and every adapter by itself at λ = 1, if they are to be compared, the grid of
    methods and scales over all adapters, greedy selection, leave-one-out from the best so far, the weights of the best
    so far.

    Args:
        score: the objective; asked once per candidate.
        count: how many adapters there are.
        space: what is tried.
        start: the λ of a merge around which ``auto`` looks.
    """
    scores: dict[Candidate, float] = {}

    def remembered(candidate: Candidate) -> float:
        if candidate not in scores:
            scores[candidate] = score(candidate)
        return scores[candidate]

    def best() -> Candidate:
        return choose(scores, Candidate.place).best

    average = Candidate.plain(range(count), "average", 1.0)
    singles = tuple(Candidate.plain([member], "average", 1.0) for member in range(count))
    for candidate in (average, *singles) if space.compare else ():
        remembered(candidate)
    scales = Search(start, space.budget) if space.scales == "auto" else _ordered(space.scales)
    method = grid(remembered, range(count), space.methods, scales, space.weights).method
    selection = greedy(remembered, count, method, scales) if space.select else ()
    whole = best()
    left_out = leave_one_out(remembered, whole, scales) if space.leave_one_out else {}
    tune_weights(remembered, best(), space.weight_trials)
    return Found(
        average=average if space.compare else None,
        singles=singles if space.compare else (),
        selection=selection,
        whole=whole,
        left_out=left_out,
        chosen=best(),
        tried=tuple(scores),
    )


def _ordered(scales: Sequence[Scale]) -> list[Scale]:
    """Numbers upward, so that the smaller one of equals wins, then the rules."""
    numbers = sorted({scale for scale in scales if not isinstance(scale, str)})
    return [*numbers, *dict.fromkeys(scale for scale in scales if isinstance(scale, str))]
