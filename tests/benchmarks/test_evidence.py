"""The evidence: a tiny form of it runs and goes on, its intervals hold, and the page tells what was measured."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evidence.__main__ import rows
from evidence.claims import claims, lost, sharpening
from evidence.figures import figures
from evidence.intervals import over_groups, over_seeds
from evidence.measure import Bench, Sizes
from evidence.plan import PARTS, PLANS, Plan, steps
from evidence.systematic import falsified
from rich.console import Console

from prefdelta import micro
from prefdelta.core.records import Pair, Sample, Span

ROOT = Path(__file__).parents[2]
TINY = Plan(
    sizes=Sizes(4, 4),
    prompts=150,
    seeds=(0,),
    methods=("average",),
    baseline_seeds=(),
    epochs=(),
    few=(),
    harmful=False,
    domains=("reasoning",),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("evidence")
    return root, list(rows(root, TINY, ["seeds"], Console(file=io.StringIO())))


def rounded(scale: float) -> str:
    """λ as the searches round it, and as the rows name it."""
    return f"{float(format(scale, '.3g')):g}"


def test_a_tiny_form_measures_every_way_to_choose(tiny: tuple[Path, list[dict[str, Any]]]) -> None:
    student, row = tiny[1]
    assert student["part"] == "student"
    assert {"one", "projection", "agreement", "labels"} <= set(row["tests"])
    assert [own["pairs"] > 0 for own in row["own"]] == [True] * 4
    for by in ("agreement", "labels"):
        bracket = [row["tried"][rounded(factor * row["start"])][by] for factor in (0.5, 1, 2, 4, 8)]
        assert row["tried"][f"{row['chosen'][by]:g}"][by] >= max(bracket)
    found = claims(tiny[1])
    assert found["count"] == 1
    assert found["claims"]["regret"]["agreement"]["all"]["mean"] == pytest.approx(lost(row, "agreement"), abs=0.05)
    drawn = figures(found)
    assert set(drawn) == {"evidence-table", "evidence-regret"}
    assert all(picture.startswith("<svg") for picture in drawn.values())


def test_nothing_is_asked_twice(tiny: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("asked again")

    for name in ("validated", "tested"):
        monkeypatch.setattr(Bench, name, refuse)
    assert list(rows(tiny[0], TINY, ["seeds"], Console(file=io.StringIO()))) == tiny[1]


def test_a_difference_of_equal_answers_is_0_and_its_interval_holds_it() -> None:
    answers = [[[1, 0, 1, 1], [0, 0, 1, 0]], [[1, 1, 1, 0], [0, 1, 0, 0]]]
    found = over_seeds(answers, answers)
    assert found["mean"] == 0
    assert found["low"] < 0 < found["high"]
    assert over_seeds(answers)["mean"] == pytest.approx(100 * np.mean([0.75, 0.25, 0.75, 0.25]))


def test_cells_that_share_deltas_count_as_one_group() -> None:
    once = over_groups({0: [1.0], 1: [3.0], 2: [5.0]})
    thrice = over_groups({0: [1.0] * 3, 1: [3.0] * 3, 2: [5.0] * 3})
    assert (once["mean"], once["low"], once["high"]) == (thrice["mean"], thrice["low"], thrice["high"])
    assert (thrice["cells"], thrice["groups"]) == (9, 3)


def test_the_page_on_sharpening_is_read_as_it_is_written() -> None:
    page = (ROOT / "benchmarks" / "results" / "sharpening.md").read_text(encoding="utf-8")
    found = sharpening(page)["truncate-ties, energy .5"]["ties .2"]
    interval = f"{found['mean']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"
    assert f"{interval}, {found['ahead']} of {found['of']}" in page


def test_the_full_plan_has_every_cell_of_the_shipped_one() -> None:
    def cells(size: str) -> set[str]:
        return {cell.name for part in PARTS for step in steps(PLANS[size], part) for cell in step.cells}

    assert cells("shipped") <= cells("full")


def test_a_falsified_answer_is_wrong_and_always_the_same() -> None:
    cities = sorted({item.answers[0] for item in micro.items("search", split="train", count=2000)})
    pairs = [
        Pair(str(number), "lookup", ({"role": "user", "content": "?"},), found, Sample("0", (Span("so"),), "stop", 1))
        for number, found in enumerate([searched(cities[0]), searched(cities[0]), searched(cities[-1])])
    ]
    guessed = replace(pairs[0], chosen=Sample("0", (Span(f"<answer>{cities[0]}</answer>"),), "stop", 1))
    wrong = [pair.chosen.spans for pair in falsified([*pairs, guessed])]
    assert [spans[-1].text for spans in wrong] == [f"<answer>{city}</answer>" for city in (*[cities[1]] * 2, cities[0])]
    assert all(spans[:-1] == pair.chosen.spans[:-1] for spans, pair in zip(wrong, pairs, strict=True))


def searched(city: str) -> Sample:
    """A response that searches and then answers."""
    found = Span(f"<information>{city}</information>", "environment")
    return Sample("0", (Span("<search>home</search>"), found, Span(f"<answer>{city}</answer>")), "stop", 1)


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def test_every_number_of_the_page_was_measured() -> None:
    results = ROOT / "benchmarks" / "results"
    measured, *others = (
        json.loads((results / f"evidence{part}.json").read_text(encoding="utf-8"))
        for part in ("", "-families", "-many", "-ranks", "-objectives", "-fooled")
    )
    known = {spelled for number in numbers([measured, *others]) for spelled in (f"{abs(number):.1f}", f"{number:g}")}
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    told = re.findall(r"(?<![\w.])\d+\.\d(?![\d.])", page)
    assert len(told) > 40
    assert [number for number in told if number not in known] == []
    (cells,) = {match for match in re.findall(r"(\d+) cells", page) if int(match) == measured["count"]}
    assert int(cells) == measured["count"]
