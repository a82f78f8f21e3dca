"""Which answers make a pair: by order, by score, best and worst, of one source."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from prefdelta.core.errors import PrefdeltaError
from prefdelta.pairs.rules import by_order, by_score
from prefdelta.recipe import Domain, Pairing
from scored import items, pool

WEAK = {"i0": [3.0, 1.0], "i1": [1.0, 1.0], "i2": [0.0, 2.0], "i3": [5.0]}
WEAKER = {"i0": [1.0, 2.0], "i1": [1.0, 4.0], "i2": [1.0, 0.5]}


def _pairs(**settings: Any) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    proposal = by_score(items(4), [pool("weak", WEAK), pool("weaker", WEAKER)], Pairing(**settings))
    return [(pair.id, pair.chosen.text, pair.rejected.text) for pair in proposal.pairs], proposal.dropped


def test_by_order_pairs_answers_with_one_index() -> None:
    weak, weaker = (
        [entry.sample for entries in pool(name, scores).values() for entry in entries]
        for name, scores in (("weak", WEAK), ("weaker", WEAKER))
    )
    proposal = by_order(items(4), weak, weaker)
    assert [pair.id for pair in proposal.pairs] == ["i0", "i0/1", "i1", "i1/1", "i2", "i2/1"]
    assert all(pair.chosen.text.split()[0] == "weak" for pair in proposal.pairs)
    assert all(pair.chosen.index == pair.rejected.index for pair in proposal.pairs)
    assert proposal.dropped == {"missing": 1}


def test_the_order_may_be_checked_by_scores() -> None:
    found, dropped = _pairs(rule="order", min_gap=0.0)
    assert [name for name, _, _ in found] == ["i0", "i1", "i2/1"]
    assert dropped == {"small_gap": 3, "missing": 1}


def test_the_higher_score_is_preferred() -> None:
    found, dropped = _pairs(rule="score")
    assert found == [
        ("i0", "weak i0 0", "weaker i0 0"),
        ("i0/1", "weaker i0 1", "weak i0 1"),
        ("i1/1", "weaker i1 1", "weak i1 1"),
        ("i2", "weaker i2 0", "weak i2 0"),
        ("i2/1", "weak i2 1", "weaker i2 1"),
    ]
    assert dropped == {"tied": 1, "missing": 1}
    assert [name for name, _, _ in _pairs(rule="score", min_gap=1.5)[0]] == ["i0", "i1/1", "i2/1"]
    found, dropped = _pairs(rule="score", min_gap=1.5, max_gap=2)
    assert [name for name, _, _ in found] == ["i0", "i2/1"]
    assert dropped == {"tied": 1, "small_gap": 2, "large_gap": 1, "missing": 1}


def test_best_and_worst_of_all() -> None:
    found, dropped = _pairs(rule="best-worst")
    assert found == [
        ("i0", "weak i0 0", "weaker i0 0"),
        ("i1", "weaker i1 1", "weaker i1 0"),
        ("i2", "weak i2 1", "weak i2 0"),
    ]
    assert dropped == {"missing": 1}


def test_best_and_worst_of_the_source_with_the_best_answer() -> None:
    found, dropped = _pairs(rule="same-source")
    assert found == [
        ("i0", "weak i0 0", "weak i0 1"),
        ("i1", "weaker i1 1", "weaker i1 0"),
        ("i2", "weak i2 1", "weak i2 0"),
    ]
    assert dropped == {"missing": 1}
    three = [pool(name, {"i0": scores}) for name, scores in (("a", [1, 0]), ("b", [9]), ("c", [2, 1.5]))]
    (pair,) = by_score(items(1), three, Pairing(rule="same-source", min_gap=0.1, max_gap=1)).pairs
    assert (pair.chosen.text, pair.rejected.text) == ("c i0 0", "c i0 1")
    with pytest.raises(PrefdeltaError, match="'score' compares two models; 3 are given"):
        by_score(items(1), three, Pairing(rule="score"))


def test_what_cannot_be_is_refused_in_the_recipe() -> None:
    with pytest.raises(ValidationError, match="min_gap is above max_gap"):
        Pairing(rule="score", min_gap=2, max_gap=1)
    delta = {"name": "d", "weak": "a", "weaker": "b"}
    raw = {
        "prompts": {"source": "micro:search", "count": 1},
        "deltas": [delta],
        "benchmarks": [{"name": "b", "questions": {"source": "micro:search"}}],
    }
    with pytest.raises(ValidationError, match="needs scores"):
        Domain(**raw, pairing={"rule": "best-worst"})
    with pytest.raises(ValidationError, match="exactly one of model, scorer and path"):
        Domain(**raw, pairing={"rule": "score"}, scoring={"scorer": "choice", "path": "x"})
