"""The order in which candidates are tried, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefdelta.choosing.candidate import Candidate, Score
from prefdelta.choosing.strategies import greedy, grid, leave_one_out, tune_weights
from prefdelta.errors import PrefdeltaError
from prefdelta.merging.registry import get_method
from prefdelta.merging.scale import Scale, check_scale


@dataclass(frozen=True)
class Space:
    """What is tried.

    Attributes:
        methods: merge methods, the first of equals is preferred.
        scales: numbers above 0, or rules (``norm-matched``, ``projection``).
        select: whether greedy selection looks for a subset of the adapters, with the grid's best method.
        leave_one_out: whether each adapter's part in the best merge is measured.
        weight_trials: at most how many weights are tried on the best merge; 0 for none.
    """

    methods: tuple[str, ...] = ("average", "gam")
    scales: tuple[Scale, ...] = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    select: bool = False
    leave_one_out: bool = False
    weight_trials: int = 0

    def __post_init__(self) -> None:
        if not self.methods or not self.scales:
            raise PrefdeltaError("a search needs at least one method and one scale.")
        for method in self.methods:
            get_method(method)
        for scale in self.scales:
            check_scale(scale)
            if not isinstance(scale, str) and scale <= 0:
                raise PrefdeltaError(f"a search tries scales above 0, not {scale:g}; the base is scored in any case.")
        if self.weight_trials < 0:
            raise PrefdeltaError(f"the number of weights to try must not be negative, but is {self.weight_trials}.")

    def evaluations(self, adapters: int) -> int:
        """The most evaluations that a search of so many adapters makes."""
        grid_size = len(self.scales) * len(self.methods)
        subsets = adapters * (adapters + 1) // 2 if self.select else 0
        left_out = adapters if self.leave_one_out else 0
        return 2 + adapters + grid_size + (subsets + left_out) * len(self.scales) + self.weight_trials


@dataclass(frozen=True)
class Found:
    """What a search went through; see :class:`prefdelta.choosing.record.SearchRecord`."""

    average: Candidate
    singles: tuple[Candidate, ...]
    selection: tuple[Candidate, ...]
    whole: Candidate
    left_out: Mapping[int, Candidate]
    chosen: Candidate


def search(score: Score, count: int, space: Space) -> Found:
    """Go through the space from the simple to the complex; choose the best of all that was tried, the first of equals.

    In turn: the plain average at λ = 1, every adapter by itself at λ = 1, the grid of methods and scales over all
    adapters, greedy selection, leave-one-out from the best so far, the weights of the best so far.

    Args:
        score: the objective; asked once per candidate.
        count: how many adapters there are.
        space: what is tried.
    """
    scores: dict[Candidate, float] = {}

    def remembered(candidate: Candidate) -> float:
        if candidate not in scores:
            scores[candidate] = score(candidate)
        return scores[candidate]

    def best() -> Candidate:
        return max(scores, key=lambda candidate: scores[candidate])

    average = Candidate.plain(range(count), "average", 1.0)
    singles = tuple(Candidate.plain([member], "average", 1.0) for member in range(count))
    for candidate in (average, *singles):
        remembered(candidate)
    ordered = _ordered(space.scales)
    method = grid(remembered, range(count), space.methods, ordered).method
    selection = greedy(remembered, count, method, ordered) if space.select else ()
    whole = best()
    left_out = leave_one_out(remembered, whole, ordered) if space.leave_one_out else {}
    tune_weights(remembered, best(), space.weight_trials)
    return Found(average, singles, selection, whole, left_out, best())


def _ordered(scales: Sequence[Scale]) -> list[Scale]:
    """Numbers upward, so that the smaller one of equals wins, then the rules."""
    numbers = sorted({scale for scale in scales if not isinstance(scale, str)})
    return [*numbers, *dict.fromkeys(scale for scale in scales if isinstance(scale, str))]
