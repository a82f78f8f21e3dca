"""Many models on the same items: scores, paired differences, corrected p-values."""

from __future__ import annotations

import numpy as np
import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record
from prefdelta.evaluation.score_table import ScoreTable, mean_difference
from prefdelta.evaluation.statistics import p_value, paired_difference

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


def table_records(seed: int) -> dict[tuple[str, int | None], list[Record]]:
    generator = np.random.default_rng(seed)
    records: dict[tuple[str, int | None], list[Record]] = {
        (name, seed): answers(generator, 0.3 + 0.2 * place) for place, name in enumerate("abc") for seed in (0, 1)
    }
    return {**records, ("source", None): answers(generator, 0.9)}


@pytest.fixture
def table() -> ScoreTable:
    return ScoreTable.from_records(table_records(0))


def test_a_score_is_the_mean_over_seeds_of_the_mean_over_tasks(table: ScoreTable) -> None:
    by_task = [table.score("b", task) for task in TASKS]
    assert table.score("b") == pytest.approx(np.mean(by_task))
    assert table.score("b") == pytest.approx(np.mean(list(table.per_seed("b").values())))
    assert table.tasks == list(TASKS)


def test_a_difference_is_that_of_the_scores_and_turns_its_sign(table: ScoreTable) -> None:
    there, back = table.difference("c", "a"), table.difference("a", "c")
    assert there.mean == pytest.approx(table.score("c") - table.score("a"))
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    assert there.seeds == 2


def test_a_model_without_seeds_is_compared_with_every_seed_of_another(table: ScoreTable) -> None:
    difference = table.difference("a", "source")
    assert difference.seeds == 2
    assert difference.mean == pytest.approx(table.score("a") - table.score("source"))


def test_several_comparisons_are_corrected_for_their_number(table: ScoreTable) -> None:
    rows = table.against("c", ["a", "b", "source"])
    raw = sorted(row.p for row in rows)
    assert [row.other for row in rows] == ["a", "b", "source"]
    assert min(row.p_holm for row in rows) == pytest.approx(min(1.0, 3 * raw[0]))
    assert all(row.p_holm >= row.p for row in rows)
    (alone,) = table.against("c", ["a"])
    assert alone.p_holm == alone.p


def test_a_model_against_itself_shows_no_difference_and_cannot_rule_one_out(table: ScoreTable) -> None:
    """Where no item differs the interval still has a width: so few items cannot prove equality."""
    difference = table.difference("a", "a")
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
    assert ScoreTable.from_records(records).difference("b", "a") == expected
    assert ScoreTable.from_records(records).against("b", ["a"])[0].p == pytest.approx(
        p_value(pairs, clusters=groups, unit=100.0), abs=1e-4
    )


def test_a_table_tells_how_answers_are_and_what_they_rest_on(table: ScoreTable) -> None:
    assert (table.items(), table.items("sum"), table.groups()) == (sum(TASKS.values()), TASKS["sum"], 42)
    assert table.health("b", "read").tokens == 3
    assert table.behaviours("b") == {"steps": 50.0}
    assert set(table.per_seed("b")) == {"0", "1"}
    longer = table.measured(lambda record: float(record.tokens), unit=0.0)
    assert (longer.score("a"), longer.difference("a", "b").high) == (3, 0)


def test_models_without_a_common_seed_are_not_paired() -> None:
    generator = np.random.default_rng(0)
    table = ScoreTable.from_records({(name, seed): answers(generator, 0.5) for seed, name in enumerate("ab")})
    with pytest.raises(PrefdeltaError, match="'a' and 'b' share no training seed"):
        table.difference("a", "b")


def test_the_mean_over_tables_keeps_seeds_paired_and_weighs_tables_alike(table: ScoreTable) -> None:
    short = ScoreTable.from_records(table_records(1))
    both = mean_difference([(table, "c", "a"), (short, "c", "a")])
    assert both.mean == pytest.approx((table.difference("c", "a").mean + short.difference("c", "a").mean) / 2)
    assert mean_difference([(table, "c", "a")]) == table.difference("c", "a")


def test_models_that_answered_other_items_are_refused() -> None:
    generator = np.random.default_rng(0)
    rows = answers(generator, 0.5)
    with pytest.raises(
        PrefdeltaError, match="'b' and 'a' did not answer the same items of 'sum': 29 are shared, of 29 and 30"
    ):
        ScoreTable.from_records({("a", 0): rows, ("b", 0): rows[1:]})
    with pytest.raises(PrefdeltaError, match="'b' answers item 'sum-0' of 'sum' twice"):
        ScoreTable.from_records({("a", 0): rows, ("b", 0): [*rows, rows[0]]})


def test_changed_answers_are_counted_by_item_and_seed_and_averaged_over_tasks() -> None:
    def row(task: str, item: int, parsed: str | None, output: str) -> Record:
        return Record(task, str(item), 0.0, parsed, output, False, 1)

    base = [row("sum", n, str(n), f"so {n}") for n in range(4)] + [row("read", n, None, f"text {n}") for n in range(2)]
    pairs = [row("pairs", n, None, "") for n in range(3)]
    worded = [row(r.task, int(r.item), r.parsed, f"{r.output}!" if r.parsed else r.output) for r in base]
    other = [*worded[:2], row("sum", 2, "9", "so 9"), row("sum", 3, None, "so"), worded[4], row("read", 1, None, "new")]
    table = ScoreTable.from_records(
        {("base", None): base + pairs, ("worded", None): worded + pairs}
        | {("m", 0): worded + pairs, ("m", 1): other + pairs}
    )
    assert table.changed("worded", "base") == 0  # other words, the same answers
    assert table.changed("m", "base", "sum") == table.changed("base", "m", "sum") == 25  # 2 of 4 with one seed of two
    assert table.changed("m", "base") == 25  # of "sum" and "read" alike
    assert table.changed("m", "base", "pairs") is None
