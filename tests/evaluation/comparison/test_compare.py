"""Comparing two runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record, write_rows
from prefdelta.evaluation.comparison import Run, compare, read_run, read_runs
from prefdelta.evaluation.results import ComparisonResults
from prefdelta.evaluation.statistics import holm, mcnemar_exact, p_value, paired_difference
from report_sample import sample


def records(task: str, scores: Sequence[float], **more: object) -> list[Record]:
    return [
        Record(task, f"{task}-{number}", float(score), "x" if number % 10 else None, "o", number % 4 == 0, 7, **more)  # type: ignore[arg-type]
        for number, score in enumerate(scores)
    ]


def coins(seed: int, share: float, count: int = 300) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < share).astype(float)


def one(a: Sequence[float], b: Sequence[float], **more: object) -> ComparisonResults:
    return compare(Run("old", [records("t", a, **more)]), Run("new", [records("t", b, **more)]))


def test_right_and_wrong() -> None:
    a, b = coins(0, 0.5), coins(1, 0.7)
    found = one(a, b)
    (row,) = found.benchmarks
    assert found.overall is None
    assert (row.task, row.items, row.clusters, row.seeds, row.test) == ("t", 300, 300, 1, "mcnemar")
    assert row.difference == pytest.approx(100 * (b - a).mean())
    assert (row.first.score, row.second.score) == pytest.approx((100 * a.mean(), 100 * b.mean()))
    assert row.p == row.p_holm == mcnemar_exact(b > 0, a > 0)
    expected = paired_difference([100 * (b - a)[None]], unit=100)
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert row.bootstrap == pytest.approx((expected.low, expected.high), abs=1)
    assert (row.first.unparsed, row.first.truncated, row.first.tokens) == pytest.approx((10, 25, 7))
    assert found.verdict == (
        f"On t new is {row.difference:.1f} points better than old ({row.second.score:.1f} against "
        f"{row.first.score:.1f} %, 300 items; +{row.difference:.1f}, 95 % CI +{row.low:.1f} to +{row.high:.1f}, exact "
        "McNemar p < 0.001)."
    )


def test_turned_around_everything_changes_its_sign() -> None:
    a, b = coins(0, 0.5), coins(1, 0.7)
    (forth,), (back,) = one(a, b).benchmarks, one(b, a).benchmarks
    assert (back.difference, back.low, back.high) == pytest.approx((-forth.difference, -forth.high, -forth.low))
    assert back.p == forth.p
    assert "points worse than old" in one(b, a).verdict


def test_a_run_against_itself() -> None:
    a = coins(0, 0.5)
    found = one(a, a)
    (row,) = found.benchmarks
    assert (row.difference, row.p, row.bootstrap) == (0, 1, (0, 0))
    assert row.low < 0 < row.high
    assert found.verdict.startswith("On t no difference between new and old is shown (")
    assert found.verdict.endswith(f"less than {row.detectable:.1f} points can easily go unnoticed here.")


def test_partial_scores_get_the_p_value_of_their_interval() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(80), np.clip(rng.random(80) + 0.1, 0, 1)
    (row,) = one(a, b).benchmarks
    assert row.test == "interval"
    assert row.p == pytest.approx(p_value([100 * (b - a)[None]], unit=100))


def test_seeds_are_averaged_and_their_noise_is_in_the_interval() -> None:
    scores = [(coins(seed, 0.5), coins(10 + seed, 0.6)) for seed in range(3)]
    first = Run("old", [records("t", a) for a, _ in scores])
    second = Run("new", [records("t", b) for _, b in scores])
    (row,) = compare(first, second).benchmarks
    expected = paired_difference([100 * np.stack([b - a for a, b in scores])], unit=100)
    assert (row.seeds, row.test) == (3, "interval")
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    (mixed,) = compare(Run("old", [records("t", scores[0][0])]), second).benchmarks
    assert mixed.difference == pytest.approx(100 * np.mean([b - scores[0][0] for _, b in scores]))
    assert "3 training seeds" in compare(first, second).verdict
    with pytest.raises(PrefdeltaError, match="old has 3 training seeds and new has 2"):
        compare(first, Run("new", second.seeds[:2]))


def test_groups_are_clusters() -> None:
    a, b = coins(3, 0.5, 60), coins(4, 0.6, 60)
    rows_a, rows_b = (
        [replace(row, group=f"g{number // 5}") for number, row in enumerate(records("t", scores))] for scores in (a, b)
    )
    (row,) = compare(Run("old", [rows_a]), Run("new", [rows_b])).benchmarks
    order = np.argsort([entry.item for entry in rows_a])
    expected = paired_difference([100 * (b - a)[order][None]], clusters=[np.arange(60)[order] // 5], unit=100)
    assert (row.items, row.clusters, row.test) == (60, 12, "interval")
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert "60 items in 12 clusters;" in compare(Run("old", [rows_a]), Run("new", [rows_b])).verdict


def test_a_score_that_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = records("t", coins(0, 0.5, 9))
    write_rows(tmp_path / "a.jsonl", [*rows[:3], replace(rows[3], score=float("nan")), *rows[4:]])
    with pytest.raises(PrefdeltaError, match=r"a\.jsonl, line 4: .*NaN is no number"):
        read_run(tmp_path / "a.jsonl")


def several() -> ComparisonResults:
    base = {"up": coins(0, 0.4), "down": coins(1, 0.8), "even": coins(2, 0.5)}
    other = {"up": coins(3, 0.7), "down": coins(4, 0.5), "even": coins(5, 0.5)}
    first, second = (
        Run(name, [[row for task, scores in runs.items() for row in records(task, scores)]])
        for name, runs in (("old", base), ("new", other))
    )
    return compare(first, second)


def test_several_benchmarks() -> None:
    found = several()
    assert [row.task for row in found.benchmarks] == ["up", "down", "even"]
    assert [row.p_holm for row in found.benchmarks] == holm([row.p for row in found.benchmarks])
    assert found.overall is not None
    assert found.overall.difference == pytest.approx(np.mean([row.difference for row in found.benchmarks]))
    assert found.overall.items == 900
    sentence = found.verdict
    assert sentence.startswith("Over 3 benchmarks (900 items) no difference between new and old is shown on average (")
    up, down, even = (f"{row.difference:+.1f}".replace("-", "−") for row in found.benchmarks)
    assert f"corrected for 3 tests, new is better on up ({up}), worse on down ({down}), no difference is" in sentence
    assert sentence.endswith(f"shown on even ({even}).")


def test_json_holds_all() -> None:
    found = json.loads(json.dumps(several().to_json()))
    assert found["verdict"] == several().verdict
    assert found["benchmarks"][0]["first"].keys() == {"score", "unparsed", "truncated", "tokens"}
    assert found["overall"]["task"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-2], "298 are shared, of 298 and 300"),
        (lambda rows: [*rows[1:], replace(rows[0], item="new")], "299 are shared, of 300 and 300"),
        (lambda rows: [*rows, rows[0]], "'new' answers item 't-0' of 't' twice"),
        (lambda rows: [replace(row, task="u") for row in rows], "share 0 benchmarks, .* 't', 'u'"),
        (lambda rows: [replace(row, scorer="lenient") for row in rows], "by 'strict' in old and by 'lenient' in new"),
        (lambda rows: [replace(rows[0], prompt_hash="1"), *rows[1:]], "the prompts of 1 of 300 items of 't' differ"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: Callable[[list[Record]], list[Record]], message: str) -> None:
    rows = records("t", coins(0, 0.5), scorer="strict", prompt_hash="0")
    with pytest.raises(PrefdeltaError, match=message):
        compare(Run("old", [rows]), Run("new", [change(rows)]))


def test_what_is_not_known_is_not_held_against_a_run() -> None:
    rows = records("t", coins(0, 0.5), scorer="strict", prompt_hash="0")
    bare = [replace(row, scorer="", prompt_hash="") for row in rows]
    assert compare(Run("old", [rows]), Run("new", [bare])).benchmarks[0].difference == 0


def test_runs_are_read_from_files_and_folders(tmp_path: Path) -> None:
    rows = records("t", coins(0, 0.5))
    for name in ("one", "two/same", "three/same"):
        (tmp_path / name).mkdir(parents=True)
        write_rows(tmp_path / name / "records.jsonl", rows)
    write_rows(tmp_path / "file.jsonl", rows)
    assert read_run(tmp_path / "one").name == read_run(tmp_path / "one" / "records.jsonl").name == "one"
    assert read_run(tmp_path / "file.jsonl") == Run("file", [rows])
    names = [run.name for run in read_runs(tmp_path / "two" / "same", tmp_path / "three" / "same")]
    assert names == [str(tmp_path / "two" / "same"), str(tmp_path / "three" / "same")]
    with pytest.raises(PrefdeltaError, match=r"holds no records\.jsonl and no results\.json"):
        read_run(tmp_path / "nothing")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(PrefdeltaError, match="is empty"):
        read_run(tmp_path / "empty.jsonl")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(PrefdeltaError, match=r"results\.json has the layout None, .* reads layout 2; run `"):
        read_run(tmp_path)


def test_a_finished_recipe_stands_for_its_chosen_merge(tmp_path: Path) -> None:
    results = sample(seeds=(0, 1), domains=("reasoning",)).results  # the merge "average" was chosen at λ = 3
    (tmp_path / "results.json").write_text(json.dumps(results.to_json()))
    for seed in (0, 1):
        folder = tmp_path / "reasoning" / "test" / str(seed) / "average" / "scale-3"
        folder.mkdir(parents=True)
        write_rows(folder / "records.jsonl", records("sums", coins(seed, 0.5)))
    found = read_run(tmp_path)
    assert [len(rows) for rows in found.seeds] == [300, 300]
    assert found.seeds[0][0].task == "reasoning/sums"
