"""A run on two worker processes leaves the bytes of a run in sequence; with the training baselines in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefdelta.errors import PrefdeltaError
from prefdelta.pipeline.run import run_recipe
from prefdelta.recipe import Recipe
from whole_runs import hashes


@pytest.fixture(scope="module")
def recipe(small: dict[str, Any]) -> Recipe:
    domain = small["domains"]["search"]
    quick = {
        **domain,
        "prompts": {**domain["prompts"], "count": 48},
        "training": {**domain["training"], "warmup_ratio": 0.0},
    }
    return Recipe(
        **{**small, "controls": [], "baselines": ["joint", "sequential"], "domains": {"search": quick}},
        evaluate_weak=False,
    )


@pytest.fixture(scope="module")
def sequence(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sequence") / "run"
    run_recipe(recipe, root)
    return root


def test_two_workers_leave_the_same_bytes(recipe: Recipe, sequence: Path, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path / "run", workers=2)
    assert hashes(tmp_path / "run") == hashes(sequence)
    built = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
    assert len([line for line in built if line["event"] == "built"]) > 10
    before = (tmp_path / "run" / "journal.jsonl").read_text().count("built")
    run_recipe(recipe, tmp_path / "run", workers=2)
    assert (tmp_path / "run" / "journal.jsonl").read_text().count("built") == before


def test_a_workers_refusal_reaches_the_user(recipe: Recipe, sequence: Path, tmp_path: Path) -> None:
    domain = recipe.domains["search"]
    cold = domain.training.model_copy(update={"warmup_ratio": 1.0, "batch_size": 128, "micro_batch_size": 128})
    broken = recipe.model_copy(update={"domains": {"search": domain.model_copy(update={"training": cold})}})
    with pytest.raises(PrefdeltaError, match="the training changed nothing"):
        run_recipe(broken, tmp_path / "run", workers=2)


def test_baselines_are_trained_on_all_pairs_and_reported(sequence: Path) -> None:
    methods = json.loads((sequence / "results.json").read_text())["domains"]["search"]["methods"]
    assert {"joint", "sequential"} <= {name for name, method in methods.items() if method["kind"] == "baseline"}
    report = json.loads((sequence / "search/adapters/0/joint/training.json").read_text())
    pairs = [len((sequence / f"search/pairs/{name}/pairs.jsonl").read_text().splitlines()) for name in ("ash", "elm")]
    assert report["examples"] == sum(pairs)
    first, second = (
        json.loads((sequence / f"search/adapters/0/{name}/manifest.json").read_text())
        for name in ("ash", "sequential.elm")
    )
    assert second["inputs"]["adapter"]["content"] == first["content"]
    text = (sequence / "report.html").read_text()
    assert "training on all pairs" in text
