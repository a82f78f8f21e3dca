"""Units in shards: the bytes of a run without them, and a shard that is lost is the only one made again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.execution import worker
from prefdelta.experiments.gpus import gpu_named
from prefdelta.experiments.hours import stage_hours
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.plan import Plan
from prefdelta.experiments.run import publish_again, run_recipe
from prefdelta.experiments.unit import Inputs, RunContext
from prefdelta.experiments.verify import verify
from prefdelta.recipe import BaseRecipe, Recipe, load_recipe
from prefdelta.report.viewer.process import collect_process
from whole_runs import hashes, run_apart

DIVIDED = ("responses", "test", "watch")
SECOND = ".shards/search/responses/ash-weak/2-of-3"


@pytest.fixture(scope="module")
def recipe(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers in six groups, tests in three, watched answers in two; held-out pairs in the last shard of a test."""
    domain = small["domains"]["search"]
    lookup = {"questions": {"source": "micro:lookup"}, "name": "lookup"}
    quick = {
        **domain,
        "prompts": {**domain["prompts"], "count": 24},
        "held_out": 4,
        "deltas": domain["deltas"][:1],
        "sampling": {**domain["sampling"], "batch_size": 1},
        "evaluation_sampling": {"temperature": 0.0, "max_new_tokens": 24, "batch_size": 1},
        "training": {**domain["training"], "warmup_ratio": 0.0},
        "benchmarks": [
            {**lookup, "validation": 4, "test": 17},
            {"name": "pairs", "validation": 0, "test": 4, "pairs": {"held_out": "ash"}},
        ],
    }
    watched = {"benchmarks": [{**lookup, "validation": 0, "test": 9}], "sampling": {"batch_size": 1}}
    raw = {
        **small,
        "controls": [],
        "evaluate_weak": False,
        "domains": {"search": quick},
        "merge": {"methods": ["average"], "scales": [1.0], "selection": {"by": "labels"}},
        "watch": watched,
    }
    path = tmp_path_factory.mktemp("shards") / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def in_shards(recipe: Path, count: int, *stages: str) -> Recipe:
    loaded = load_recipe(recipe, [f"resources.{stage}.shards={count}" for stage in stages or DIVIDED])
    assert isinstance(loaded, Recipe)
    return loaded


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without shards."""
    root = tmp_path_factory.mktemp("whole") / "run"
    run_recipe(load_recipe(recipe), root)
    return root


def without(whole: Path, root: Path, *stages: str) -> Path:
    """The run without what was made in some stages."""
    shutil.copytree(whole, root)
    (root / "journal.jsonl").unlink()
    for stage in stages:
        shutil.rmtree(root / "search" / stage)
    return root


def artifacts(root: Path) -> dict[str, str]:
    """The hashes of all files but those that hold the recipe, which says how many shards there are."""
    return {name: found for name, found in hashes(root).items() if name.startswith(("search/", "results", "result."))}


def built(root: Path) -> Counter[str]:
    entries = map(json.loads, (root / "journal.jsonl").read_text().splitlines())
    return Counter(entry["artifact"] for entry in entries if entry["event"] == "built")


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(("count", "workers"), [(2, 1), (5, 2)])
def test_any_number_of_shards_leaves_the_bytes_of_none(
    recipe: Path, whole: Path, tmp_path: Path, count: int, workers: int
) -> None:
    root = without(whole, tmp_path / "run", *DIVIDED)
    run_recipe(in_shards(recipe, count), root, workers=workers)
    assert artifacts(root) == artifacts(whole)
    assert hashes(root).keys() == hashes(whole).keys()
    made = built(root)
    assert {name.split("/")[1 if name.startswith("search") else 2] for name in made} == set(DIVIDED)
    parts = [name for name in made if name.startswith(".shards/search/responses/ash-weak/")]
    assert len(parts) == count
    tests = [name for name in made if name.startswith(".shards/search/test/0/average/")]
    assert len(tests) == min(count, 3)
    assert set(made.values()) == {1}
    assert verify(root, lambda done, total: None)[1] == []
    entries = [json.loads(line) for line in (root / "journal.jsonl").read_text().splitlines()]
    took = sum(entry["seconds"] for entry in entries if "responses/ash-weak/" in f"{entry.get('artifact', '')}/")
    (shown,) = [unit for unit in collect_process(root).units if unit.name == "search/responses/ash-weak"]
    assert shown.seconds == pytest.approx(took)
    publish_again(root)
    run_recipe(load_recipe(recipe), root)
    assert built(root) == made
    assert hashes(root) == hashes(whole)


def test_a_shard_killed_in_its_work_is_the_only_one_made_again(recipe: Path, whole: Path, tmp_path: Path) -> None:
    root = without(whole, tmp_path / "run", "responses")
    settings = tmp_path / "recipe.yaml"
    divided = {"resources": {"responses": {"shards": 3}}}
    settings.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **divided}))
    assert run_apart(settings, root, SECOND, "progress") == -signal.SIGKILL
    before = built(root)
    assert before
    assert SECOND not in before
    assert (root / SECOND).with_name(".2-of-3.partial").is_dir()
    assert run_apart(settings, root, "search/responses/ash-weak", "publish") == -signal.SIGKILL  # while it is joined
    run_recipe(load_recipe(settings), root)
    assert set(built(root).values()) == {1}
    assert artifacts(root) == artifacts(whole)
    assert hashes(root).keys() == hashes(whole).keys()


@pytest.mark.usefixtures("forked_workers")
def test_a_worker_lost_in_a_shard_costs_that_shard(
    recipe: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(recipe: BaseRecipe, root: Path) -> Plan:
        planned = plan_for(recipe, root)
        planned.units = [
            dataclasses.replace(
                unit, shards=tuple(mortal(shard) if shard.name == SECOND else shard for shard in unit.shards)
            )
            for unit in planned.units
        ]
        return planned

    def mortal(shard: Any) -> Any:
        def make(work: Path, inputs: Inputs, context: RunContext) -> None:
            if not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            shard.make(work, inputs, context)

        return dataclasses.replace(shard, make=make)

    monkeypatch.setattr(worker, "plan_for", plan)
    root = without(whole, tmp_path / "run", "responses")
    run_recipe(in_shards(recipe, 3), root, workers=2)
    assert artifacts(root) == artifacts(whole)
    assert set(built(root).values()) == {1}
    events = map(json.loads, (root / "journal.jsonl").read_text().splitlines())
    assert [entry["artifact"] for entry in events if entry["event"] == "lost"] == [SECOND]


def test_a_dry_run_tells_the_shards_and_hours_know_them(recipe: Path, tmp_path: Path) -> None:
    plan = plan_for(in_shards(recipe, 4), tmp_path / "run")
    console = Console(record=True, width=120, file=(tmp_path / "out").open("w"))
    console.print(plan.table())
    rows = {line.split("│")[1].strip(): line.split("│") for line in console.export_text().splitlines() if "│" in line}
    assert [int(rows[stage][3]) for stage in DIVIDED] == [8, 9, 2]  # two models, three tests of three, one watch
    assert rows["adapters"][3].strip() == "-"
    undivided = plan_for(load_recipe(recipe), tmp_path / "run")
    console.print(undivided.table())
    assert "in shards" not in console.export_text()
    ours, theirs = (stage_hours(each.units, gpu_named("h100")) for each in (plan, undivided))
    assert ours["responses"].longest < theirs["responses"].longest
    assert ours["adapters"] == theirs["adapters"]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("resources.responses.shards=0", r"resources\.responses\.shards: .*greater than or equal to 1"),
        ("resources.responses.shards=few", r"resources\.responses\.shards: .*integer"),
        (
            "resources.validation.shards=2",
            "resources.validation.shards: the stage 'validation' is not divided into shards; those that can be are "
            "responses, test, watch",
        ),
        ("resources.answers.shards=2", "resources: there is no stage 'answers'"),
    ],
)
def test_a_wrong_number_or_stage_is_told(recipe: Path, tmp_path: Path, setting: str, told: str) -> None:
    with pytest.raises(PrefdeltaError, match=told):
        run_recipe(load_recipe(recipe, [setting]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_not_ours_among_the_shards_stays(recipe: Path, whole: Path, tmp_path: Path) -> None:
    root = without(whole, tmp_path / "run")
    theirs = root / ".shards" / "search" / "notes.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    run_recipe(load_recipe(recipe), root)
    assert theirs.read_text() == "mine"
