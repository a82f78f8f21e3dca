"""Suites over given models, their data loaded by ``datasets``: the way of the CLIP and Llama recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import suite_data
from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.run import run_recipe
from prefdelta.recipe import configure_recipe, load_recipe
from prefdelta.recipe.suite import ClipBackbone, DecoderBackbone, LearnedMethod, SuiteRecipe
from suite_models import write_bert, write_clip, write_llama

RECIPES = Path(__file__).parents[3] / "recipes"
TEXTS = [("a photo of a red ball", "it is blue"), ("left of the green right", "premise hypothesis relation")] * 4


def pictures(folder: Path, *, by: str) -> Path:
    for number in range(30):
        colour, bright = list(suite_data.COLOURS)[number % 3], number % 2 == 0
        place = folder / "train" / (colour if by == "colour" else ("left" if bright else "right"))
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02d}.png").write_bytes(suite_data.picture(colour, number, bright=bright))
    return folder


def clip_suite(folder: Path) -> dict[str, Any]:
    return {
        "kind": "suite",
        "name": "tiny-clip",
        "budget": 2,
        "backbone": {
            "type": "clip",
            "model": {"path": str(write_clip(folder / "clip", TEXTS)), "dtype": "float32"},
            "image_size": 16,
            "entropy_scale": 1.0,
        },
        "tasks": [
            {"name": by, "source": {"dataset": "imagefolder", "data_dir": str(pictures(folder / by, by=by))}}
            for by in ("colour", "side")
        ],
        "adapter": {
            "lora": {**suite_data.LORA, "targets": ["q_proj", "k_proj", "v_proj", "out_proj"]},
            "training": {**suite_data.OPTIMISATION, "learning_rate": 1e-2},
        },
        "methods": suite_data.METHODS,
    }


def llama_suite(folder: Path) -> dict[str, Any]:
    model = {"path": str(write_llama(folder / "llama", TEXTS)), "dtype": "bfloat16"}
    return text_suite(folder, {"type": "language-model", "model": model}, suite_data.LORA["targets"])


def encoder_suite(folder: Path) -> dict[str, Any]:
    model = str(write_bert(folder / "bert", TEXTS))
    return text_suite(folder, {"type": "text-encoder", "model": model}, ["query", "value"])


def text_suite(folder: Path, backbone: dict[str, Any], targets: list[str]) -> dict[str, Any]:
    tasks = []
    for negate in (True, False):
        place = folder / f"negate-{negate}"
        place.mkdir()
        suite_data.write_sentences(place / "rows.jsonl", negate=negate, count=40)
        columns = ["premise", "hypothesis"]
        tasks.append(
            {
                "name": f"task-{negate}".lower(),
                "source": {"dataset": "json", "data_dir": str(place), "columns": columns},
                "limits": {"validation": 6, "test": 6},
            }
        )
    return {
        "kind": "suite",
        "name": "tiny-text",
        "budget": 2,
        "backbone": {**backbone, "max_length": 24},
        "tasks": tasks,
        "adapter": {
            "lora": {**suite_data.LORA, "targets": targets},
            "training": {**suite_data.OPTIMISATION, "learning_rate": 1e-2},
        },
        "methods": suite_data.METHODS,
    }


@pytest.mark.parametrize("suite", [clip_suite, llama_suite, encoder_suite])
def test_a_suite_over_a_given_model_runs(suite: Any, tmp_path: Path) -> None:
    run_recipe(configure_recipe(suite(tmp_path), origin="test"), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(found["methods"]) == {"backbone", "task-arithmetic", "ties", "tara-b"}
    assert all(0 < accuracy <= 100 for accuracy in found["single"].values())
    assert ("joint" in found["methods"]["ties"]) == (suite is clip_suite)


def test_a_data_set_that_is_not_there_is_told(tmp_path: Path) -> None:
    raw = clip_suite(tmp_path)
    raw["tasks"][0]["source"] = {"dataset": "imagefolder", "data_dir": str(tmp_path / "nowhere")}
    with pytest.raises(PrefdeltaError, match="nowhere does not exist; name a file or a folder that does"):
        run_recipe(configure_recipe(raw, origin="test"), tmp_path / "run")


@pytest.mark.parametrize("name", ["suite-clip-vit-b-32", "suite-clip-vit-l-14", "suite-llama-3-8b-nli"])
def test_the_papers_settings(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert isinstance(recipe, SuiteRecipe)
    clip = isinstance(recipe.backbone, ClipBackbone)
    assert isinstance(recipe.backbone, ClipBackbone | DecoderBackbone)
    assert len(recipe.tasks) == (8 if clip else 6)
    assert (recipe.adapter.lora.r, recipe.adapter.lora.alpha, recipe.adapter.lora.dropout) == (16, 16, 0.1)
    learned = [method for method in recipe.methods if isinstance(method, LearnedMethod)]
    assert [method.learn for method in learned] == ["ada-module", "tara-a", "tara-b"]
    for method in learned:
        settings = method.learning
        assert (settings.steps, settings.start, settings.weight_decay, method.batch_size) == (500, 0.4, 0.01, 16)
        assert 1e-3 in method.learning_rates
        assert settings.scalarisation == ("linear" if method.learn == "ada-module" else "smooth-tchebycheff")
