"""Whole suites, tiny: from data to the table."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

import suite_data
from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.published import published_damage
from prefdelta.experiments.run import publish_again, run_recipe
from prefdelta.experiments.suites import tuning
from prefdelta.experiments.unit import RunContext
from prefdelta.merging.learned.report import read_report
from prefdelta.recipe import configure_recipe
from prefdelta.report.viewer import collect


def recipe(raw: dict[str, Any]) -> Any:
    return configure_recipe(raw, origin="test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return suite_data.write_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_recipe(recipe(suite_data.image_suite(root)), folder)
    return folder


def results(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "results.json").read_text()))


def test_a_suite_of_images_gives_its_table_and_its_picture(finished: Path) -> None:
    found = results(finished)
    assert list(found["methods"]) == ["backbone", "tara-b", "task-arithmetic", "ties"]
    for row in found["methods"].values():
        assert row["mean"]["low"] <= row["mean"]["mean"] <= row["mean"]["high"]
        assert row["mean"]["mean"] == pytest.approx(
            sum(row["tasks"][task]["mean"] for task in found["tasks"]) / 3, abs=2e-3
        )
        assert 0 <= row["joint"]["1"]["mean"] <= row["joint"]["5"]["mean"] <= 100
        assert set(row["unseen"]["tasks"]) == {"more"}
    # q, k, v and out of one layer; three adapters of rank 2: 4 · 3 · 6 coefficients.
    assert found["methods"]["tara-b"]["coefficients"] == 72
    assert len(found["differences"]) == 6
    table = (finished / "results.md").read_text()
    assert "| tara-b |" in table
    assert "joint Hits@1" in table
    assert (finished / "preference.svg").read_text().startswith("<svg")


def test_the_viewer_shows_every_method_on_every_item(finished: Path) -> None:
    found = results(finished)
    shown = collect(finished)
    (domain,) = shown.domains
    assert [model.name for model in domain.models] == ["own adapters", *found["methods"]]
    for place, model in enumerate(domain.models[1:], 1):
        for task, score in zip(domain.tasks, model.scores, strict=True):
            right = [row.score for of_seed in domain.answers for row in of_seed[place] or () if row.task == task]
            assert score == pytest.approx(100 * sum(right) / len(right), abs=1e-3)
            assert score == found["methods"][model.name]["accuracy"][task]["mean"]
    assert [row[:4] for row in shown.tables[0].rows] == [
        [name, row["mean"]["mean"], row["mean"]["low"], row["mean"]["high"]] for name, row in found["methods"].items()
    ]
    (sweep,) = shown.charts
    assert [row[0] for row in sweep.curves[0].rows] == [point["weight"] for point in found["preference"]["points"]]


def test_validation_chooses_and_test_items_do_not(finished: Path) -> None:
    for method in ("task-arithmetic", "ties", "tara-b"):
        scores = json.loads((finished / "tuning" / method / "scores.json").read_text())
        chosen = json.loads((finished / "tuning" / method / "chosen.json").read_text())
        assert len(scores) == 2
        assert chosen["score"] == max(row["score"] for row in scores)
        assert chosen["setting"] == scores[chosen["place"]]["setting"]


def test_the_first_seeds_learned_merge_is_the_one_that_was_tuned(finished: Path) -> None:
    chosen = json.loads((finished / "tuning" / "tara-b" / "chosen.json").read_text())
    assert chosen["setting"].startswith("lr=0.001,")
    tuned = finished / "tuning" / "tara-b" / "learned" / "0.001" / "adapter_model.safetensors"
    merged = finished / "merges" / "0" / "tara-b" / "adapter" / "adapter_model.safetensors"
    assert tuned.read_bytes() == merged.read_bytes()


def test_a_second_run_gives_equal_numbers_and_a_killed_one_goes_on(
    root: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    scored = tuning._score

    def dies(*arguments: Any) -> Any:
        if arguments[3].label == "density=0.5,scale=1":
            raise Killed
        return scored(*arguments)

    monkeypatch.setattr(tuning, "_score", dies)
    with pytest.raises(Killed):
        run_recipe(recipe(suite_data.image_suite(root)), tmp_path)
    assert (tmp_path / "tuning" / ".ties.partial" / "scores.kept-rows").is_file()
    monkeypatch.setattr(tuning, "_score", scored)
    run_recipe(recipe(suite_data.image_suite(root)), tmp_path)
    assert results(tmp_path) == results(finished)


def test_a_suite_of_sentences_trains_a_head_with_each_adapter(root: Path, tmp_path: Path) -> None:
    run_recipe(recipe(suite_data.sentence_suite(root)), tmp_path)
    found = results(tmp_path)
    assert "joint" not in found["methods"]["ties"]
    assert (tmp_path / "adapters" / "0" / "colours" / "head.safetensors").is_file()
    assert found["unseen_tasks"] == []


def test_coefficients_can_be_learned_from_labels(root: Path, tmp_path: Path) -> None:
    raw = suite_data.sentence_suite(root)
    shared = {"learn": "tara-a", "learning": {"steps": 20}, "learning_rates": [3e-2], "scales": [1.0]}
    raw |= {
        "budget": 1,
        "methods": [
            {"label": "labelled", "objective": "cross-entropy", **shared},
            {"label": "unlabelled", **shared},
        ],
    }
    run_recipe(recipe(raw), tmp_path)
    anchors = json.loads((tmp_path / "references" / "0" / "anchors.json").read_text())
    assert list(anchors) == ["cross-entropy", "entropy"]
    reports = {name: read_report(tmp_path / "merges" / "0" / name / "adapter") for name in ("labelled", "unlabelled")}
    for name, objective in (("labelled", "cross-entropy"), ("unlabelled", "entropy")):
        tasks = reports[name].tasks
        assert {task.name: task.anchor for task in tasks} == pytest.approx(anchors[objective])
        # A step holds all eight validation items of a task, so that the steps can be compared.
        assert sum(task.last for task in tasks) < sum(task.first for task in tasks)
    # Both begin at the same coefficients, where the two objectives differ.
    for mine, theirs in zip(reports["labelled"].tasks, reports["unlabelled"].tasks, strict=True):
        assert mine.first != theirs.first


def test_the_plan_says_what_would_be_done(root: Path, tmp_path: Path) -> None:
    plan = plan_for(recipe(suite_data.image_suite(root)), tmp_path)
    stages = [unit.stage for unit in plan.units]
    assert (stages.count("adapters"), stages.count("tuning"), stages.count("unseen")) == (6, 3, 6)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 3}, "method 'task-arithmetic' tries 2 settings, the budget is 3"),
        ({"unseen": ["none"]}, "unseen names 'none', which is no task"),
        ({"unseen": ["more", "sides"]}, "at least two tasks must be left"),
        ({"backbone": {"type": "vit", "hidden": 16, "heads": 3}}, "hidden is 16, which 3 heads cannot share"),
        ({"preference": {"method": "ties", "task": "sides"}}, "'ties' is no learned method"),
        ({"preference": {"method": "tara-a", "task": "sides", "weights": [0.5, 1.5]}}, "less than or equal to 1"),
        ({"preference": {"method": "tara-a", "task": "sides", "weights": []}}, "at least 1 item"),
        (
            {"methods": [{"name": "ties", "label": "backbone", "scales": [1, 2]}], "preference": None},
            "method 'backbone' is what results call the backbone without adapters",
        ),
        ({"methods": [{"name": "tees", "label": "x", "scales": [1, 2]}], "preference": None}, "did you mean 'ties'"),
        ({"methods": [{"learn": "tara-c", "label": "x", "scales": [1, 2]}], "preference": None}, "did you mean 'tara-"),
    ],
)
def test_mistakes_are_told(root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PrefdeltaError, match=message):
        plan_for(recipe({**suite_data.image_suite(root), **change}), tmp_path)


PAIR = '{"premise": "a", "hypothesis": "b", "label": "x"}\n'


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("json-lines", "rows.jsonl", b"{nope\n", "rows.jsonl, line 1: not a JSON object"),
        ("json-lines", "rows.jsonl", b"[1]\n", "rows.jsonl, line 1: not a JSON object"),
        ("json-lines", "rows.jsonl", b"\xff\xfe", "cannot read rows.jsonl as 'json-lines'"),
        ("json-lines", "rows.jsonl", PAIR.encode(), "no example is left for the train split"),
        ("sick", "rows.txt", b"a\tb\n1\t2\n", "cannot read rows.txt as 'sick': 'sentence_A'"),
        ("split-folders", "x.zip", b"no zip", "cannot read x.zip as 'split-folders': File is not a zip file"),
        ("split-folders", "x.tar", b"no tar", "cannot read x.tar as 'split-folders'"),
        ("tracks", "x.zip", {"a.png": b""}, "cannot read x.zip as 'tracks'"),
        ("idx", "x.bin", b"abc", "names two files"),
        ("drawings", "x.bin", b"abc", "cannot read x.bin as 'drawings'"),
        ("tracks", "x.zip", {f"{n}/{n}_0.png": b"no png" for n in range(20)}, "Pillow cannot read this image"),
    ],
)
def test_files_that_are_not_what_the_recipe_says_are_told(
    tmp_path: Path, kind: str, name: str, content: bytes | dict[str, bytes], message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, inside in content.items():
                archive.writestr(member, inside)
    raw = (suite_data.sentence_suite if kind in ("json-lines", "sick") else suite_data.image_suite)(tmp_path)
    raw["tasks"][0]["source"] = {"format": kind, "files": [name]}
    unit = plan_for(recipe(raw), tmp_path / "run").units[0]
    (tmp_path / "work").mkdir()
    with pytest.raises(PrefdeltaError, match="^task 'colours': .*" + re.escape(message)):
        unit.make(tmp_path / "work", {}, RunContext())


def test_a_suite_is_published_whatever_went_wrong_before_and_verified(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    with (root / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "failed", "artifact": "merges/0/ties", "error": "OSError"}\n{"event": "built", "art\n')
    publish_again(root)
    assert published_damage(root) == []
    assert (root / "results.md").read_bytes() == (finished / "results.md").read_bytes()
    for name in ("results.md", "preference.svg"):
        (root / name).write_text("changed")
        assert any(f"{name} was changed after it was written" in told for told in published_damage(root))


def test_a_local_folder_of_the_datasets_library_decides_the_data(root: Path, tmp_path: Path) -> None:
    raw = suite_data.sentence_suite(root)
    columns = ["premise", "hypothesis"]
    raw["tasks"][0]["source"] = {"dataset": "json", "data_dir": str(tmp_path / "rows"), "columns": columns}
    (tmp_path / "rows").mkdir()
    hashes = []
    for count in (12, 13):
        suite_data.write_sentences(tmp_path / "rows" / "train.jsonl", negate=True, count=count)
        unit = plan_for(recipe(raw), tmp_path / "run").units[0]
        hashes.append({label: hashed() for label, hashed in unit.externals.items()})
    assert hashes[0] != hashes[1]


def test_a_backbone_of_text_refuses_images(root: Path, tmp_path: Path) -> None:
    raw = suite_data.sentence_suite(root)
    raw["tasks"][0]["source"] = {"format": "split-folders", "files": ["colours.tar.gz"]}
    with pytest.raises(PrefdeltaError, match="a backbone of type 'bert' cannot read this source"):
        run_recipe(recipe(raw), tmp_path)
