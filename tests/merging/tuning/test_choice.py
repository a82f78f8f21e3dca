"""The rule by which runs, suites and the command ``tune`` choose λ and method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdelta.merging.scale import Scale
from prefdelta.merging.tuning import Choice, choose, select

Named = tuple[str, Scale]
GRID: dict[Named, float] = {
    ("average", 1.0): 0.2,
    ("average", 2.0): 0.6,
    ("average", 4.0): 0.3,
    ("ties", 1.0): 0.5,
    ("ties", 2.0): 0.6,
    ("ties", "projection"): 0.1,
}


def by_name(candidate: Named) -> Named:
    return candidate


def best_of(scores: dict[Named, float]) -> Choice[Named]:
    return choose(scores, by_name)


def test_the_best_score_wins_and_the_first_of_equals() -> None:
    assert best_of(GRID).best == ("average", 2.0)
    assert best_of(GRID).score == 0.6
    assert best_of(dict(reversed(GRID.items()))).best == ("ties", 2.0)


@pytest.mark.parametrize(
    ("winner", "edge"),
    [
        (("average", 1.0), "smallest"),
        (("average", 2.0), None),
        (("average", 4.0), "largest"),
        (("ties", 2.0), "largest"),  # the largest that ties was tried with
        (("ties", "projection"), None),
    ],
)
def test_an_optimum_at_the_edge_is_told(winner: Named, edge: str | None) -> None:
    assert best_of({**GRID, winner: 0.9}).edge == edge


def test_one_scale_has_no_edge() -> None:
    assert best_of({("average", 1.0): 0.5, ("ties", 1.0): 0.4}).edge is None


def test_ties_are_what_the_items_cannot_tell_from_the_best() -> None:
    draws = np.random.default_rng(0).random((1, 400))
    near, far = draws + 0.0, draws * 0.5
    near[0, :4] -= 0.1
    scores = {("a", 1.0): float(draws.mean()), ("b", 1.0): float(near.mean()), ("c", 1.0): float(far.mean())}
    found = choose(scores, by_name, {("a", 1.0): [draws], ("b", 1.0): [near], ("c", 1.0): [far]})
    assert found.best == ("a", 1.0)
    assert found.ties == (("b", 1.0),)


@given(
    st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from([0.5, 1.0, 2.0])), st.floats(0, 1), min_size=1)
)
def test_a_selection_is_a_choice_per_name(scores: dict[tuple[str, float], float]) -> None:
    found = select({key: [value] for key, value in scores.items()})
    upwards = dict(sorted(scores.items(), key=lambda entry: entry[0][1]))
    for name, scale in found.scale.items():
        own = choose({key: value for key, value in upwards.items() if key[0] == name}, by_name)
        assert own.best == (name, scale)
        assert (own.edge is not None) == (name in found.at_edge)
    assert scores[found.best, found.scale[found.best]] == max(scores.values())


def test_a_selection_tells_neighbours_flat_signals_and_level_names() -> None:
    draws = np.random.default_rng(1).random((2, 300))
    close = draws - 0.02 * (np.arange(300) % 50 == 0)

    def items(values: np.ndarray) -> list[np.ndarray]:
        return [values[:, :150], values[:, 150:]]

    tried = {("a", 1.0): draws * 0.3, ("a", 2.0): close, ("a", 4.0): draws, ("a", 8.0): draws * 0.5}
    tried |= {("b", 1.0): close, ("b", 4.0): close, ("c", 1.0): draws * 0.4, ("c", 2.0): draws * 0.7}
    scores = {key: list(values.mean(axis=1)) for key, values in tried.items()}
    found = select(scores, {key: items(values) for key, values in tried.items()}, by="agreement", unit=1.0)
    assert (found.best, found.scale["a"], found.by) == ("a", 4.0, "agreement")
    assert found.ranges == {"a": (2.0, 4.0), "b": (1.0, 4.0), "c": (2.0, 2.0)}
    assert found.flat == ("b",)
    assert found.ties == ("b",)
    assert select(scores).ranges == {}
