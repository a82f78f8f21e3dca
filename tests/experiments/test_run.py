"""A run from prompts to report: what it leaves, that it is skipped when done, and that kill -9 changes nothing."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record, read_rows
from prefdelta.evaluation.results import Interval, read_recipe_results
from prefdelta.experiments.run import publish_again, run_recipe
from prefdelta.merging.tuning.agreement import agreement
from prefdelta.recipe import configure_recipe, load_recipe
from whole_runs import command, hashes, run_apart

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


def test_a_run_ends_with_its_result_and_the_next_commands(
    finished: Path, small_recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert command("run", small_recipe, "-o", finished) == 0
    told = capsys.readouterr().out
    results = json.loads((finished / "results.json").read_text())
    for name, domain in results["domains"].items():
        summary = domain["summary"]
        (row,) = [line for line in told.splitlines() if line.startswith(f"│ {name} ")]
        for score in (summary["student"], summary["best_single"]["score"], summary["best_merge"]["score"]):
            assert f"{score:.1f}" in row
        for gain in ("gain_over_best_single", "gain_over_student"):
            assert Interval(**summary[gain]).text in row
        adapter = finished / name / "merged" / "adapter"
        (line,) = [line for line in told.splitlines() if line.startswith("next: prefdelta evaluate ")]
        words = shlex.split(line.removeprefix("next: prefdelta "))
        assert words[words.index("--adapter") + 1] == str(adapter)
        words[words.index("YOUR_ITEMS.jsonl")], words[-1] = "micro:lookup", str(finished.parent / "own")
        assert command(*words, "--count", 4) == 0


def test_the_merge_is_chosen_by_agreement_and_labels_stand_beside_it(finished: Path) -> None:
    domain = read_recipe_results(finished / "results.json").domains["search"]  # type: ignore[union-attr]
    selection = domain.selection
    assert (selection.by, selection.singles.by, selection.labelled.by) == ("agreement", "labels", "labels")
    for name in ("average", "gam"):
        for scale, score in selection.scores[name].items():
            folder = finished / "search" / "validation" / name / "0" / f"scale-{scale}"
            draws = [read_rows(folder / f"draw-{draw}" / "records.jsonl", Record) for draw in (0, 1)]
            found = agreement(*([row.parsed for row in rows] for rows in draws))  # no score is looked at
            assert score == pytest.approx(100 * found.information, abs=1e-3)
            labels = sum(row.score for rows in draws for row in rows) / 32
            assert selection.labelled.scores[name][scale] == pytest.approx(100 * labels, abs=1e-3)
    best = max(selection.scores, key=lambda name: max(selection.scores[name].values()))
    assert selection.best_merge == best == domain.summary.best_merge.name
    assert domain.summary.labelled_merge is not None
    assert selection.guard is not None
    assert selection.guard.kl > 0


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


def test_no_domain_can_have_the_name_of_what_lies_beside_the_domains(finished: Path, small: dict[str, Any]) -> None:
    beside = [path.name for path in finished.iterdir() if path.name[0] != "." and path.name not in small["domains"]]
    assert {"results.json", "run.json", "journal.jsonl"} <= set(beside)
    for name in beside:
        with pytest.raises(PrefdeltaError, match="has the name of something that a run writes"):
            configure_recipe({**small, "domains": {name: small["domains"]["search"]}}, origin="recipe.yaml")


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
    settings = ["merge.scales=auto", "merge.selection={by: pairs, pairs: 8, budget: 5}"]
    run_recipe(load_recipe(small_recipe, settings), root)
    after = hashes(root)
    changed = {name.split("/")[1] for name in before if "/" in name and before[name] != after.get(name)}
    # GAM's reference is chosen by validation, so its merge is checked again too; nothing is sampled or trained.
    assert changed == {"validation", "selection", "guard", "merges", "test", "merged"}
    assert before["search/merges/0/average/manifest.json"] == after["search/merges/0/average/manifest.json"]
    selection = read_recipe_results(root / "results.json").domains["search"].selection  # type: ignore[union-attr]
    assert (selection.by, selection.singles.by, selection.labelled) == ("pairs", "labels", None)
    assert len(selection.scores["gam"]) == 5
    assert float(min(selection.scores["gam"], key=float)) > 1  # the same norms for both: its λ are larger
    assert not list((root / "search" / "validation" / "gam").glob("*/*/*/records.jsonl"))


def test_controls_of_no_seed_are_left_out(finished: Path, small_recipe: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    run_recipe(load_recipe(small_recipe, ["control_seeds=[]"]), root)
    methods = json.loads((root / "results.json").read_text())["domains"]["search"]["methods"]
    assert {"student", "ash", "gam"} <= set(methods)
    assert not any(name.startswith("reversed") for name in methods)


def test_a_run_that_is_whole_is_verified(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", finished) == 0
    artifacts = len(list(finished.rglob("manifest.json")))
    assert capsys.readouterr().out.splitlines()[-1] == f"{finished}: {artifacts} artifacts are as they were written"
    assert command("verify", finished / "search" / "merged") == 0


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lower_a_score(path: Path) -> None:
    first, *rest = path.read_text().splitlines(keepends=True)
    record = json.loads(first)
    path.write_text("".join([json.dumps({**record, "score": 1 - record["score"]}) + "\n", *rest]))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("search/adapters/0/ash/adapter_model.safetensors", flip, "was changed after it was written"),
    ("search/responses/ash-weak/responses.jsonl", halve, "bytes instead of"),
    ("search/pairs/elm/pairs.jsonl", Path.unlink, "is missing"),
    ("search/test/0/gam/scale-1/records.jsonl", lower_a_score, "bytes instead of"),
    ("search/validation/ash/manifest.json", flip, "is missing or damaged"),
    ("search/prompts/manifest.json", Path.unlink, "is missing"),
    ("search/merged/adapter/adapter_model.safetensors", flip, "was changed after it was written"),
]


@pytest.mark.parametrize(("name", "harm", "told"), DAMAGE)
def test_what_is_damaged_is_told_and_made_again(
    finished: Path,
    small_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    harm: Callable[[Path], None],
    told: str,
) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    harm(root / name)
    assert command("verify", root) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if name in line)
    assert told in line
    assert command("run", small_recipe, "-o", root) == 0
    assert f"{root / name}" in capsys.readouterr().out.replace("\n", "")
    assert {key: value for key, value in hashes(root).items() if ".damaged-1" not in key} == hashes(finished)
    journal = [json.loads(line) for line in (root / "journal.jsonl").read_text().splitlines()]
    (entry,) = [entry for entry in journal if entry["event"] == "damaged"]
    assert name.startswith(entry["artifact"])
    assert (root / entry["aside"]).is_dir()
    assert command("verify", root) == 0


def test_an_extra_file_is_told_and_never_removed(
    finished: Path, small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    note = root / "search" / "pairs" / "elm" / "note.txt"
    note.write_text("mine")
    assert command("verify", root) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"{note} was not written by prefdelta"
    assert command("run", small_recipe, "-o", root) == 2
    assert "note.txt" in capsys.readouterr().err
    assert note.read_text() == "mine"


@pytest.mark.parametrize("name", ["results.json", "report.html", "run.json", "journal.jsonl"])
def test_damage_beside_the_artifacts_is_told(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    (root / name).write_bytes((root / name).read_bytes()[:-5])
    assert command("verify", root) == 1
    assert name in capsys.readouterr().out


def test_what_was_changed_is_not_merged_compared_viewed_or_reported(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    adapters, scored = root / "search" / "adapters" / "0", root / "search" / "test" / "0" / "gam" / "scale-1"
    flip(adapters / "ash" / "adapter_model.safetensors")
    lower_a_score(scored / "records.jsonl")
    config = adapters / "elm" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    results = root / "results.json"
    results.write_text(results.read_text().replace('"recipe": "small"', '"recipe": "other"'))
    for words, name in (
        (("merge", adapters / "ash", "-o", tmp_path / "m"), "adapter_model.safetensors"),
        (("inspect", adapters / "elm"), "adapter_config.json"),
        (("compare", scored, scored), "records.jsonl"),
        (("view", root, "-o", tmp_path / "v"), "results.json"),
    ):
        if name == "results.json":  # which is looked at last
            shutil.rmtree(root / "search")
            shutil.copytree(finished / "search", root / "search")
        assert command(*words) == 2
        told = capsys.readouterr().err
        assert f"{name} was changed after it was written" in told
    assert command("report", root) == 0
    recipe = root / "recipe.json"
    recipe.write_text(recipe.read_text().replace("0.001", "0.002"))
    for words in (("report", root), ("view", root, "-o", tmp_path / "v")):
        assert command(*words) == 2
        assert "recipe.json was changed after it was written" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    (adapters / "elm" / "manifest.json").unlink()  # as the message says
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    assert command("inspect", adapters / "elm") == 0


def test_lineage_is_verified_from_a_single_artifact(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    flip(root / "search" / "pairs" / "ash" / "pairs.jsonl")
    assert command("verify", root / "search" / "merged") == 1
    assert "search/pairs/ash/pairs.jsonl was changed" in capsys.readouterr().out
    assert command("verify", root / "search" / "pairs" / "elm") == 0


def test_runs_of_an_older_version_and_folders_of_others_are_refused(
    finished: Path, small_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, other, link = tmp_path / "old", tmp_path / "other", tmp_path / "link"
    shutil.copytree(finished, old)
    (old / "run.json").unlink()
    other.mkdir()
    (other / "results.json").write_text("mine")
    link.symlink_to(other)
    for root, words in ((old, "older version"), (other, "no run of prefdelta wrote"), (link, "is a link")):
        assert command("run", small_recipe, "-o", root) == 2
        assert words in capsys.readouterr().err
    assert command("report", old) == 2
    assert "older version" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["results.json"]


def test_publishing_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="not the folder of a run"):
        publish_again(tmp_path)


def test_results_are_not_published_again_with_a_recipe_that_they_are_not_of(
    finished: Path, small_recipe: Path, tmp_path: Path
) -> None:
    root, changed = tmp_path / "run", tmp_path / "changed.yaml"
    shutil.copytree(finished, root)
    changed.write_text(small_recipe.read_text().replace("learning_rate: 0.001", "learning_rate: 0.005"))
    assert run_apart(changed, root, "adapters", "progress") == -signal.SIGKILL
    assert "0.005" in (root / "recipe.json").read_text()
    with pytest.raises(PrefdeltaError, match="is not finished; run its recipe again"):
        publish_again(root)
    assert (root / "results.json").read_bytes() == (finished / "results.json").read_bytes()


def test_deltas_trained_together_are_those_trained_alone(small_recipe: Path, finished: Path, tmp_path: Path) -> None:
    """To rounding, in the same files; a run that is killed in their training goes on, and is skipped when done."""
    raw = yaml.safe_load(small_recipe.read_text())
    domain = raw["domains"]["search"]
    domain["training"]["together"] = True
    domain["benchmarks"][0] |= {"validation": 2, "test": 2}
    recipe = tmp_path / "together.yaml"
    merge = {"methods": ["average"], "scales": [1.0]}
    recipe.write_text(yaml.safe_dump({**raw, "controls": [], "merge": merge, "evaluate_weak": False}))
    root = tmp_path / "run"
    for stage in ("prompts", "responses", "pairs"):
        shutil.copytree(finished / "search" / stage, root / "search" / stage)
    shutil.copy(finished / "run.json", root)
    assert run_apart(recipe, root, "together", "progress") == -signal.SIGKILL
    assert run_apart(recipe, root) == 0
    for name in ("ash", "elm"):
        ours, theirs = (place / "search" / "adapters" / "0" / name for place in (root, finished))
        assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
        weights, alone = (load_file(place / "adapter_model.safetensors") for place in (ours, theirs))
        for key, tensor in weights.items():
            torch.testing.assert_close(tensor, alone[key], rtol=0, atol=1e-5)  # the learning rate is 1e-3
        manifests = [json.loads((place / "manifest.json").read_text()) for place in (ours, theirs)]
        assert [manifest["config"]["training"]["together"] for manifest in manifests] == [True, False]
        assert manifests[0]["key"] != manifests[1]["key"]
    built = [json.loads(line) for line in (root / "journal.jsonl").read_text().splitlines()]
    assert [line["resumed"] for line in built if line.get("stage") == "together"] == [True]
    assert {"ash", "elm", "average"} <= set(
        json.loads((root / "results.json").read_text())["domains"]["search"]["methods"]
    )
    before = hashes(root)
    assert run_apart(recipe, root, "together", "publish") == 0  # nothing is left to be made
    assert hashes(root) == before
