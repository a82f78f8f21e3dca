"""Tuning on the embedded student: what is tried, chosen, written, told and refused."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lora_fixtures import save_lora, tiny_gpt2
from prefdelta import micro
from prefdelta.adapters import Adapter, MemoryAdapter
from prefdelta.cli.tuning import print_tuning
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.manifests import MANIFEST
from prefdelta.core.models import load
from prefdelta.core.records import write_rows
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.merging import merge
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.merging.tuning import RECORD_NAME, Space
from prefdelta.merging.tuning.record import TuningRecord
from prefdelta.recipe import ModelRef, Sampling
from prefdelta.report.results import read_results
from prefdelta.report.viewer import collect

STUDENT = ModelRef(path="micro:student")
SAMPLING = Sampling(temperature=1.0, max_new_tokens=40, batch_size=64)
Search = Callable[..., TuningRecord]


@pytest.fixture
def run(search: Search, deltas: list[Path]) -> Search:
    space = Space(("average", "gam"), (1.0, 4.0), select=True, leave_one_out=True, weight_trials=4)
    return partial(search, adapters=deltas, space=space)


def test_a_search_writes_what_it_chose(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    record = run(tmp_path / "best", progress=lambda done, most: seen.append((done, most)))
    choice = record.choice
    assert choice.score == max(trial.score for trial in record.trials)
    assert "noise" not in choice.adapters  # the random update can only harm
    assert choice.score > record.base_score
    average = record.trials[record.average]
    assert (average.adapters, average.method, average.scale) == (("ash", "elm", "noise"), "average", 1.0)
    assert record.gain.mean == pytest.approx(choice.score - average.score)
    assert [record.trials[number].adapters for number in record.singles] == [("ash",), ("elm",), ("noise",)]
    assert (record.split, [entry.items for entry in record.benchmarks]) == ("validation", [24, 24])
    assert len(seen) == len(record.trials) + 1
    assert seen[-1][0] <= seen[-1][1]
    assert any("optimistic" in warning for warning in record.warnings)

    shown = collect(tmp_path / "best")
    assert [row[-1] for row in shown.tables[0].rows].count("chosen") == 1
    curves = {curve.name: curve.rows for curve in shown.charts[0].curves}
    assert [1.0, pytest.approx(100 * average.score), pytest.approx(100 * average.unparsed)] in curves["average"]

    # The folder is that of an ordinary merge, and it scores what the search said.
    members = [path for path in deltas if path.name in choice.adapters]
    options = {"weights": choice.weights, "scale": choice.scale, "options": choice.options}
    merge(members, tmp_path / "merged", method=choice.method, **options)
    for path in (tmp_path / "merged").iterdir():
        # The manifest lists the record of the search as well.
        assert path.name == MANIFEST or (tmp_path / "best" / path.name).read_bytes() == path.read_bytes()
    items = {name: micro.items(name, split="validation", count=24) for name in ("chain", "audit")}
    records = Evaluator(load(STUDENT)).evaluate(
        tmp_path / "best", 1.0, items, dict.fromkeys(items, "exact-match"), SAMPLING
    )
    assert choice.score == np.mean(
        [np.mean([record.score for record in records if record.task == task]) for task in items]
    )


def test_a_search_is_reproducible_and_its_record_is_plain_json(run: Search, tmp_path: Path) -> None:
    space = Space(("average",), (1.0, 2.0))
    record = run(tmp_path / "one", space=space)
    run(tmp_path / "two", space=space)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / RECORD_NAME).read_text()
    stored = json.loads(text)
    assert read_results(tmp_path / "one" / RECORD_NAME) == record
    assert (stored["kind"], stored["schema"]) == ("tuning", 2)
    assert str(tmp_path) not in text
    assert stored["trials"][stored["chosen"]]["score"] == record.choice.score
    assert stored["leave_one_out"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_search_over_the_scale_starts_at_the_norm_of_the_members(
    run: Search, deltas: list[Path], tmp_path: Path
) -> None:
    space = Space(("average", "ties"), "auto", budget=7)
    record = run(tmp_path / "best", space=space)
    whole = [trial for trial in record.trials if len(trial.adapters) == 3 and trial.method == "ties"]
    assert 5 <= len(whole) <= 7
    assert record.choice.score == max(trial.score for trial in record.trials)
    members = [Adapter.open(path) for path in deltas]
    ties = merge_in_memory(members, method="ties")

    def norm(adapter: Adapter | MemoryAdapter) -> float:
        return sum(adapter.load(module).norm() ** 2 for module in adapter.modules) ** 0.5

    start = sum(map(norm, members)) / 3 / norm(ties)
    assert whole[1].scale == pytest.approx(start, rel=0.005)


def test_the_edge_of_the_grid_is_told(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    low = run(tmp_path / "low", adapters=deltas[2:], space=Space(("average",), (0.01, 2.0)))
    assert low.choice.scale == 0.01
    assert any("lies at the edge of what was tried: 0.01 is the smallest" in warning for warning in low.warnings)
    assert not any("single adapter" in warning for warning in low.warnings)


def test_a_choice_no_better_than_the_base_is_told(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    record = run(tmp_path / "out", adapters=deltas[2:], space=Space(("average",), (4.0, 8.0)))
    assert record.choice.score <= record.base_score
    assert any("than the base model" in warning for warning in record.warnings)


def test_a_file_is_split_or_taken_whole(run: Search, tmp_path: Path) -> None:
    items = [replace(item, id=f"q{n}") for n, item in enumerate(micro.items("chain", split="test", count=60))]
    write_rows(tmp_path / "own.jsonl", items)
    source, space = [str(tmp_path / "own.jsonl")], Space(("average",), (1.0,))
    part = run(tmp_path / "part", items=source, space=space, count=100)
    assert 2 <= part.benchmarks[0].items < 30
    whole = run(tmp_path / "whole", items=source, space=space, count=100, split="all")
    assert whole.benchmarks[0].items == 60
    assert whole.split == "all"
    assert whole.benchmarks[0].source == "own.jsonl"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "test"}, "cannot tell how good it is"),
        ({"split": "all"}, "micro:chain has splits of its own"),
        ({"items": []}, "no items to choose by"),
        ({"items": ["micro:chain", "micro:chain"]}, "two benchmarks are called 'chain'"),
        ({"items": ["micro:chian"]}, "did you mean 'chain'"),
        ({"items": ["nowhere.jsonl"]}, "nowhere.jsonl"),
        ({"count": 1}, "at least 2 items"),
        ({"scorer": "exact"}, "scorer"),
        ({"base": ModelRef(path="micro:nobody")}, "nobody"),
        ({"options": {"ties": {"density": 0.5}}}, "ties, which is not among the methods"),
        ({"options": {"gam": {"referenc": 1}}}, "did you mean 'reference'"),
        ({"adapters": []}, "at least one adapter"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    run: Search, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(PrefdeltaError, match=words):
        run(tmp_path / "out", **changes)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused_before_the_search(run: Search, deltas: list[Path], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    with pytest.raises(PrefdeltaError, match="did not write"):
        run(tmp_path / "there", progress=lambda *_: pytest.fail("evaluated"))
    shutil.copytree(deltas[0], tmp_path / "own")
    with pytest.raises(PrefdeltaError, match="would replace the input"):
        run(tmp_path / "own", adapters=[tmp_path / "own"], overwrite=True)
    assert (tmp_path / "there" / "file").read_text() == "mine"


def test_adapters_of_another_base_are_refused(run: Search, tmp_path: Path) -> None:
    save_lora(tiny_gpt2(), tmp_path / "gpt2", 0, r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(PrefdeltaError, match="which this base model lacks"):
        run(tmp_path / "out", adapters=[tmp_path / "gpt2"])
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_true_is_told_first(run: Search, tmp_path: Path) -> None:
    short = SAMPLING.model_copy(update={"max_new_tokens": 2})
    record = run(tmp_path / "short", space=Space(("average",), (1.0,)), items=["micro:chain"], count=8, sampling=short)
    assert record.doubts == (
        "all of the answers of the base and the choice to these items were cut off: raise max_new_tokens",
    )
    console = Console(file=io.StringIO(), width=200, record=True)
    print_tuning(record, tmp_path / "short", console)
    assert console.export_text().startswith("Do not trust these numbers yet: all of the answers of the base")
