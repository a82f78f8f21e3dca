"""Many models on the same items: scores, paired differences, corrected p-values."""

from __future__ import annotations

import numpy as np
import pytest

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.contest import Contest
from prefdelta.evaluation.statistics import p_value, paired_difference
from prefdelta.records import Record

TASKS = {"sum": 30, "read": 12}


def answers(generator: np.random.Generator, chance: float, *, group: bool = False) -> list[Record]:
    return [
        Record(
            task=task,
            item=f"{task}-{number}",
            score=float(generator.random() < chance),
            parsed="x",
            output="x",
            truncated=False,
            tokens=3,
            extra={"behaviour:steps": float(number % 2)},
            group=f"passage {number // 3}" if group else "",
        )
        for task, count in TASKS.items()
        for number in range(count)
    ]


@pytest.fixture
def contest() -> Contest:
    generator = np.random.default_rng(0)
    records = {
        (name, seed): answers(generator, 0.3 + 0.2 * place) for place, name in enumerate("abc") for seed in (0, 1)
    }
    return Contest({**records, ("source", None): answers(generator, 0.9)})


def test_a_score_is_the_mean_over_seeds_of_the_mean_over_tasks(contest: Contest) -> None:
    by_task = [contest.score("b", task) for task in TASKS]
    assert contest.score("b") == pytest.approx(np.mean(by_task))
    assert contest.score("b") == pytest.approx(np.mean(list(contest.per_seed("b").values())))
    assert contest.tasks == list(TASKS)


def test_a_difference_is_that_of_the_scores_and_turns_its_sign(contest: Contest) -> None:
    there, back = contest.difference("c", "a"), contest.difference("a", "c")
    assert there.mean == pytest.approx(contest.score("c") - contest.score("a"))
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    assert there.seeds == 2


def test_a_model_without_seeds_is_compared_with_every_seed_of_another(contest: Contest) -> None:
    difference = contest.difference("a", "source")
    assert difference.seeds == 2
    assert difference.mean == pytest.approx(contest.score("a") - contest.score("source"))


def test_several_comparisons_are_corrected_for_their_number(contest: Contest) -> None:
    rows = contest.against("c", ["a", "b", "source"])
    raw = sorted(row["p"] for row in rows)
    assert [row["with"] for row in rows] == ["a", "b", "source"]
    assert min(row["p_holm"] for row in rows) == pytest.approx(min(1.0, 3 * raw[0]))
    assert all(row["p_holm"] >= row["p"] for row in rows)
    (alone,) = contest.against("c", ["a"])
    assert alone["p_holm"] == alone["p"]


def test_a_model_against_itself_shows_no_difference_and_cannot_rule_one_out(contest: Contest) -> None:
    """Where no item differs the interval still has a width: so few items cannot prove equality."""
    difference = contest.difference("a", "a")
    assert difference.mean == 0
    assert difference.low < 0 < difference.high


def test_items_of_one_group_are_counted_as_one() -> None:
    generator = np.random.default_rng(1)
    records = {(name, 0): answers(generator, chance, group=True) for name, chance in (("a", 0.2), ("b", 0.8))}
    ordered = {
        task: [sorted((row for row in records[name, 0] if row.task == task), key=lambda row: row.item) for name in "ab"]
        for task in TASKS
    }
    pairs = [100 * np.array([[b.score - a.score for a, b in zip(*both, strict=True)]]) for both in ordered.values()]
    groups = [np.unique([row.group for row in first], return_inverse=True)[1] for first, _ in ordered.values()]
    expected = paired_difference(pairs, clusters=groups, unit=100.0)
    assert Contest(records).difference("b", "a") == expected
    assert Contest(records).against("b", ["a"])[0]["p"] == p_value(pairs, clusters=groups, unit=100.0)


def test_an_entry_has_tasks_seeds_and_references(contest: Contest) -> None:
    entry = contest.entry("b", ["a", "b"])
    assert set(entry["average"]["versus"]) == {"a"}
    assert set(entry["average"]["seeds"]) == {"0", "1"}
    assert entry["tasks"]["sum"]["n"] == TASKS["sum"]
    assert entry["tasks"]["read"]["tokens"] == 3
    assert contest.behaviours("b") == {"steps": 50.0}


def test_models_that_answered_other_items_are_refused() -> None:
    generator = np.random.default_rng(0)
    rows = answers(generator, 0.5)
    with pytest.raises(PrefdeltaError, match="'b' and 'a' did not answer the same items"):
        Contest({("a", 0): rows, ("b", 0): rows[1:]})
    with pytest.raises(PrefdeltaError, match="one that it answered twice"):
        Contest({("a", 0): rows, ("b", 0): [*rows, rows[0]]})
