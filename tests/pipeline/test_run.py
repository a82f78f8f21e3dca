"""A run from prompts to report: what it leaves, that it is skipped when done, and that kill -9 changes nothing."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.run import publish_again, run_recipe
from prefdelta.recipe import load_recipe
from whole_runs import hashes, run_apart

MOMENTS = [
    ("prompts", "publish"),
    ("responses", "progress"),
    ("responses", "publish"),
    ("pairs", "publish"),
    ("adapters", "progress"),
    ("adapters", "publish"),
    ("validation", "progress"),
    ("validation", "publish"),
    ("merges", "publish"),
    ("selection", "publish"),
    ("test", "progress"),
    ("test", "publish"),
    ("geometry", "publish"),
    ("merged", "publish"),
]


@pytest.fixture(scope="module")
def finished(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_apart(small_recipe, root) == 0
    return root


def test_a_run_leaves_results_a_report_and_an_adapter(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert set(results["summary"]) == {
        "student",
        "best_single",
        "best_merge",
        "gain_over_best_single",
        "gain_over_student",
    }
    methods = results["domains"]["search"]["methods"]
    assert {"student", "ash", "elm", "average", "gam", "weak:ash-weak", "reversed.average"} <= set(methods)
    assert "<html" in (finished / "report.html").read_text()
    adapter = finished / "search" / "merged" / "adapter"
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= {
        path.name for path in adapter.iterdir()
    }


def test_every_artifact_leads_back_to_its_inputs(finished: Path) -> None:
    for manifest in finished.rglob("manifest.json"):
        entry = json.loads(manifest.read_text())
        for source in entry["inputs"].values():
            origin = json.loads((finished / source["path"] / "manifest.json").read_text())
            assert origin["content"] == source["content"]


def test_no_file_names_this_machine(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".md", ".html", ".svg") and path.parent != finished:
            assert str(finished) not in path.read_text(), path


def test_a_finished_run_is_skipped(finished: Path, small_recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")}
    run_recipe(load_recipe(small_recipe), finished)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")} == before


def test_publishing_again_gives_the_same_bytes(finished: Path) -> None:
    before = hashes(finished)
    publish_again(finished)
    assert hashes(finished) == before


def test_a_run_killed_at_every_stage_ends_with_the_same_hashes(
    finished: Path, small_recipe: Path, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    for stage, moment in MOMENTS:
        assert run_apart(small_recipe, root, stage, moment) == -signal.SIGKILL, (stage, moment)
    assert run_apart(small_recipe, root) == 0
    assert hashes(root) == hashes(finished)
    assert not list(root.rglob("*.partial"))


def test_a_changed_setting_redoes_what_it_decides_and_nothing_else(
    finished: Path, small_recipe: Path, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    root.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", finished, root], check=True)
    before = hashes(root)
    run_recipe(load_recipe(small_recipe, ["merge.scales=[1.0, 3.0]"]), root)
    after = hashes(root)
    changed = {name.split("/")[1] for name in before if "/" in name and before[name] != after.get(name)}
    # GAM's reference is chosen by validation, so its merge is checked again too; nothing is sampled or trained.
    assert changed == {"validation", "selection", "merges", "test", "merged"}
    assert before["search/merges/0/average/manifest.json"] == after["search/merges/0/average/manifest.json"]


def test_publishing_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="not the folder of a run"):
        publish_again(tmp_path)
