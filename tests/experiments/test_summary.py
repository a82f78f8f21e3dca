"""Results on made-up records whose differences are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record
from prefdelta.evaluation.statistics import minimum_detectable_effect, paired_difference
from prefdelta.experiments.aggregation.summary import DomainOutcome, Variant, summarise
from prefdelta.merging.tuning.choice import select

SEEDS = (0, 1, 2)
N = {"chain": 200, "story": 100}


def records(right: Callable[[str, int], bool], behaviour: bool = False) -> list[Record]:
    return [
        Record(
            task,
            f"{task}-{number}",
            float(right(task, number)),
            "x" if number % 10 else None,
            "text",
            number % 4 == 0,
            7,
            {"behaviour:check": float(number % 2)} if behaviour else {},
        )
        for task, count in N.items()
        for number in range(count)
    ]


def share(percent: int) -> list[Record]:
    return records(lambda task, number: number % 100 < percent)


def outcome() -> DomainOutcome:
    variants = (
        Variant("student", "student"),
        Variant("ash-weak", "weak"),
        Variant("ash", "single", scale=1.0),
        Variant("oak", "single", scale=1.0),
        Variant("oak-tuned", "single", "oak", scale=2.0, tuned=True),
        Variant("average", "merge", scale=1.0),
        Variant("average-tuned", "merge", "average", scale=3.0, tuned=True, norm=1.5),
        Variant("shuffled", "control", "average", scale=1.0),
    )
    scores = {"student": 30, "ash-weak": 20, "ash": 40, "oak": 35, "oak-tuned": 45, "average": 50, "average-tuned": 70}
    made: dict[tuple[str, int | None], list[Record]] = {
        (name, seed): share(score + (seed or 0) * (name == "average-tuned"))
        for name, score in scores.items()
        for seed in ((None,) if name in ("student", "ash-weak") else SEEDS)
    }
    made["shuffled", 0] = share(30)
    grid = {("average", 1.0): [0.5, 0.5, 0.5], ("average", 3.0): [0.7, 0.7, 0.7], ("gam", 3.0): [0.6, 0.6, 0.6]}
    return DomainOutcome(variants, made, select(grid), select({("oak", 1.0): [0.3], ("oak", 2.0): [0.4]}))


def test_differences_and_choices() -> None:
    results = summarise("test", SEEDS, {"reasoning": outcome()}).to_json()
    summary = results["domains"]["reasoning"]["summary"]
    assert summary["student"] == 30
    assert summary["best_single"] == {"name": "oak", "variant": "oak-tuned", "scale": 2.0, "score": 45}
    assert summary["best_merge"] == {"name": "average", "variant": "average-tuned", "scale": 3.0, "score": 71}
    assert summary["gain_over_best_single"]["mean"] == 26
    assert summary["gain_over_student"]["mean"] == 41
    assert summary["gain_over_student"]["low"] < 41 < summary["gain_over_student"]["high"]
    assert summary["gain_over_student"]["seed_noise"]
    assert results["summary"]["best_merge"] == {"name": "reasoning: average", "score": 71}
    assert results["summary"]["gain_over_student"] == summary["gain_over_student"]
    selection = results["domains"]["reasoning"]["selection"]
    assert selection["best_merge"] == "average"
    assert selection["scores"]["average"] == {"1": 50, "3": 70}
    assert selection["at_edge"] == ["average"]


def test_methods_carry_their_own_numbers() -> None:
    methods = summarise("test", SEEDS, {"reasoning": outcome()}).to_json()["domains"]["reasoning"]["methods"]
    assert methods["student"]["average"]["vs_student"] is None
    assert methods["oak-tuned"]["average"]["vs_best_single"] is None
    weak = methods["ash-weak"]["average"]["vs_student"]
    assert weak["mean"] == -10
    assert not weak["seed_noise"]
    shuffled = methods["shuffled"]["average"]["vs_student"]
    assert (shuffled["mean"], shuffled["seed_noise"]) == (0, False)
    assert -2 < shuffled["low"] < 0 < shuffled["high"] < 2  # no answer differs, which is no proof that none would
    chain = methods["average"]["tasks"]["chain"]
    assert (chain["score"], chain["n"], chain["unparsed"], chain["truncated"], chain["tokens"]) == (50, 200, 10, 25, 7)
    assert methods["average-tuned"]["norm"] == 1.5
    assert "changed" not in methods["student"]["average"]
    assert methods["shuffled"]["average"]["changed"] == 0


def test_interval_is_that_of_the_paired_differences() -> None:
    interval = summarise("test", SEEDS, {"reasoning": outcome()}).to_json()["domains"]["reasoning"]["summary"]
    gains = [
        100 * np.array([[float(30 <= n % 100 < 70 + seed) for n in range(count)] for seed in SEEDS])
        for count in N.values()
    ]
    expected = paired_difference(gains, unit=100)
    assert interval["gain_over_student"]["low"] == pytest.approx(expected.low, abs=1e-4)
    assert interval["gain_over_student"]["high"] == pytest.approx(expected.high, abs=1e-4)
    detectable = minimum_detectable_effect(expected)
    assert interval["gain_over_student"]["detectable"] == pytest.approx(detectable, abs=1e-4)


def test_overall_is_the_mean_over_domains() -> None:
    other = outcome()
    other = replace(other, records={**other.records, **{("average-tuned", seed): share(50) for seed in SEEDS}})
    results = summarise("test", SEEDS, {"reasoning": outcome(), "search": other}).to_json()
    assert results["summary"]["gain_over_student"]["mean"] == (41 + 20) / 2
    assert results["summary"]["best_single"]["name"] == "reasoning: oak; search: oak"
    narrow = results["domains"]["search"]["summary"]["gain_over_student"]
    both = results["summary"]["gain_over_student"]
    assert both["high"] - both["low"] < narrow["high"] - narrow["low"] + 2


def test_bytes_do_not_depend_on_the_order_of_records() -> None:
    plain = outcome()
    turned = replace(plain, records={key: rows[::-1] for key, rows in plain.records.items() if key[0] != "student"})
    turned = replace(turned, records={**turned.records, ("student", None): plain.records["student", None]})
    first, second = (
        json.dumps(summarise("t", SEEDS, {"d": each}).to_json(), sort_keys=True) for each in (plain, turned)
    )
    assert first == second


def test_behaviours_are_rates() -> None:
    plain = outcome()
    shown = {**plain.records, ("student", None): records(lambda task, number: number % 100 < 30, behaviour=True)}
    domain = summarise("t", SEEDS, {"d": replace(plain, records=shown)}).to_json()["domains"]["d"]
    assert domain["behaviours"]["student"] == {"check": 50}
    assert "behaviours" not in summarise("t", SEEDS, {"d": plain}).to_json()["domains"]["d"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda rows: rows[:-1], "domain 'd': 'oak' with seed 1 and 'student' did not answer the same items of"),
        (lambda rows: [*rows, rows[0]], "domain 'd': 'oak' with seed 1 answers item .* twice"),
    ],
)
def test_other_items_are_refused(broken: Callable[[list[Record]], list[Record]], message: str) -> None:
    plain = outcome()
    made = {**plain.records, ("oak", 1): broken(list(plain.records["oak", 1]))}
    with pytest.raises(PrefdeltaError, match=message):
        summarise("t", SEEDS, {"d": replace(plain, records=made)}).to_json()


def test_choose_takes_the_mean_over_seeds_and_the_smaller_scale_of_equals() -> None:
    chosen = select(
        {
            ("gam", 1.0): [0.2, 0.2],
            ("average", 2.0): [0.6, 0.4],
            ("average", 1.0): [0.5, 0.5],
            ("average", 0.5): [0.9, 0.0],
            ("gam", 4.0): [0.5, 0.5],
        }
    )
    assert chosen.scale == {"average": 1.0, "gam": 4.0}
    assert chosen.best == "gam"  # the first of equals
    assert chosen.at_edge == ("gam",)
