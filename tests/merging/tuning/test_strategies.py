"""Strategies on objectives whose optimum is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.tuning import Candidate, Space, tune
from prefdelta.merging.tuning.strategies import greedy, grid, leave_one_out, tune_weights

SCALES = (0.5, 1.0, 2.0, 4.0)


class Counted:
    """An objective that counts how often each candidate is scored."""

    def __init__(self, score: Callable[[Candidate], float]) -> None:
        self._score = score
        self.asked: list[Candidate] = []

    def __call__(self, candidate: Candidate) -> float:
        self.asked.append(candidate)
        return self._score(candidate)


def additive(gains: Sequence[float]) -> Callable[[Candidate], float]:
    """Members add their gains; the best λ of a merge is the number of its members."""

    def score(candidate: Candidate) -> float:
        assert not isinstance(candidate.scale, str)
        off = math.log2(candidate.scale / len(candidate.members))
        return sum(gains[member] for member in candidate.members) - 0.1 * off**2

    return score


def table(seed: int) -> Callable[[Candidate], float]:
    """A score without any structure, with many ties."""
    return lambda candidate: random.Random(f"{seed} {candidate}").randrange(8)


def test_the_grid_finds_the_best_cell() -> None:
    best = Candidate.plain((0, 1), "gam", 2.0)
    assert grid(lambda candidate: candidate == best, (1, 0), ("average", "gam"), SCALES) == best


def test_the_first_of_equals_is_chosen() -> None:
    assert grid(lambda _: 0.0, (0,), ("gam", "average"), (2.0, 1.0)) == Candidate.plain((0,), "gam", 2.0)
    found = tune(lambda _: 0.0, 3, Space(scales=SCALES, select=True, leave_one_out=True, weight_trials=9))
    assert found.chosen == found.average == Candidate.plain(range(3), "average", 1.0)
    tied = tune(lambda candidate: candidate.scale in (0.5, 4.0), 2, Space(("average",), (4.0, 0.5)))
    assert tied.chosen.scale == 0.5


def test_greedy_takes_what_helps_most_first_and_leaves_out_what_harms() -> None:
    steps = greedy(additive([0.2, -0.3, 0.6, 0.4]), 4, "average", SCALES)
    assert [step.members for step in steps] == [(2,), (2, 3), (0, 2, 3)]
    assert [step.scale for step in steps] == [1.0, 2.0, 4.0]


def test_greedy_starts_with_the_best_single_even_if_all_are_bad() -> None:
    assert [step.members for step in greedy(additive([-0.5, -0.2]), 2, "average", SCALES)] == [(1,)]


def test_greedy_takes_all_that_help() -> None:
    steps = greedy(additive([0.1, 0.2, 0.3]), 3, "gam", SCALES)
    assert steps[-1].members == (0, 1, 2)
    assert {step.method for step in steps} == {"gam"}


def test_sets_are_compared_at_their_own_best_scale() -> None:
    """At one common λ = 1 the pair would look worse than either single."""
    harsh = additive([0.3, 0.05])
    assert harsh(Candidate.plain((0, 1), "average", 1.0)) < harsh(Candidate.plain((0,), "average", 1.0))
    assert greedy(harsh, 2, "average", SCALES)[-1].members == (0, 1)


def test_leave_one_out_measures_each_part() -> None:
    gains = [0.2, -0.3, 0.6, 0.4, 0.0]
    score = additive(gains)
    whole = Candidate((0, 1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0, 5.0), "average", 5.0)
    found = leave_one_out(score, whole, [4.0, 5.0])
    assert {member: score(whole) - score(without) for member, without in found.items()} == pytest.approx(
        dict(enumerate(gains))
    )
    assert found[1].weights == (1.0, 3.0, 4.0, 5.0)
    assert leave_one_out(score, Candidate.plain((3,), "average", 1.0), SCALES) == {}


@pytest.mark.parametrize("optimum", [(2.0, 0.5, 1.0), (8.0, 1.0, 0.25), (1.0, 1.0, 1.0), (0.7, 1.3, 3.1)])
def test_weights_reach_the_optimum_of_a_separable_objective(optimum: tuple[float, ...]) -> None:
    def score(candidate: Candidate) -> float:
        return -sum(math.log(weight / best) ** 2 for weight, best in zip(candidate.weights, optimum, strict=True))

    found = tune_weights(score, Candidate.plain(range(3), "cat", 1.0), 1000)
    for weight, best in zip(found.weights, optimum, strict=True):
        assert abs(math.log(weight / best)) <= math.log(2) / 8 + 1e-9  # half the last step, 2^(1/4)


def test_weights_keep_what_they_do_not_change() -> None:
    start = Candidate((0, 2), (1.0, -1.0), "cat", 3.0)
    found = tune_weights(lambda candidate: abs(candidate.weights[1]), start, 5)
    assert (found.members, found.method, found.scale) == (start.members, start.method, start.scale)
    assert found.weights[1] < -1.0


@given(st.integers(0, 10**6), st.integers(0, 30))
def test_weights_are_never_worse_and_within_their_budget(seed: int, trials: int) -> None:
    score = Counted(table(seed))
    start = Candidate.plain(range(3), "average", 1.0)
    best = tune_weights(score, start, trials)
    assert table(seed)(best) >= table(seed)(start)
    assert len(set(score.asked) - {start}) <= trials


def test_one_adapter_has_no_weights_to_tune() -> None:
    score = Counted(lambda _: 1.0)
    start = Candidate.plain((1,), "average", 1.0)
    assert tune_weights(score, start, 100) == start
    assert not score.asked


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 4),
    select=st.booleans(),
    left_out=st.booleans(),
    trials=st.integers(0, 12),
)
def test_a_search_asks_once_within_its_bound_and_takes_the_best(
    seed: int, count: int, select: bool, left_out: bool, trials: int
) -> None:
    score = Counted(table(seed))
    space = Space(("average", "gam"), (2.0, 1.0), select, left_out, trials)
    found = tune(score, count, space)
    assert len(score.asked) == len(set(score.asked))
    assert len(score.asked) + 1 <= space.evaluations(count)  # and the base
    scores = [table(seed)(candidate) for candidate in score.asked]
    assert found.chosen == score.asked[scores.index(max(scores))]
    assert {found.average, *found.singles, *found.selection, found.whole, *found.left_out.values()} <= set(score.asked)
    again = Counted(table(seed))
    assert tune(again, count, space) == found
    assert again.asked == score.asked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"methods": ()}, "at least one method"),
        ({"scales": ()}, "at least one method and one scale"),
        ({"methods": ("gamm",)}, "did you mean 'gam'?"),
        ({"scales": (0.0,)}, "above 0"),
        ({"scales": (float("inf"),)}, "finite"),
        ({"scales": ("norm",)}, "unknown scale"),
        ({"weight_trials": -1}, "negative"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(PrefdeltaError, match=words.replace("?", r"\?")):
        Space(**arguments)  # type: ignore[arg-type]
