"""The plan: every unit finds its inputs made, and a dry run needs nothing but the recipe."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from rich.console import Console

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Pair, Sample, Span, write_rows
from prefdelta.evaluation.benchmarks import evaluation_texts
from prefdelta.experiments.estimate import model_size
from prefdelta.experiments.identity import portable, seed_from
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.student import Student
from prefdelta.experiments.unit import RunContext
from prefdelta.recipe import Benchmark, ModelRef, Recipe, load_recipe

REPOSITORY = Path(__file__).parents[2]
RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_unit_comes_after_its_inputs(recipe: Path, tmp_path: Path) -> None:
    made: set[str] = set()
    for unit in plan_for(load_recipe(recipe), tmp_path).units:
        assert set(unit.inputs.values()) <= made, unit.name
        assert unit.name not in made
        made.add(unit.name)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_dry_run_opens_no_connection_and_writes_nothing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if recipe.stem == "real-outputs" and not (REPOSITORY.parent / "shared" / "data").is_dir():
        pytest.skip("the recipe's student is among real data that do not lie beside this checkout")

    def refuse(*_: object) -> None:
        raise AssertionError("a dry run opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    console = Console(record=True, width=120, file=(tmp_path / "out").open("w"))
    console.print(plan_for(load_recipe(recipe), tmp_path / "run").table())
    text = console.export_text()
    assert "adapters" in text
    assert "optimiser steps" in text
    assert not (tmp_path / "run").exists()


def test_the_paper_recipe_counts_its_steps() -> None:
    """Table 5: one epoch of 7,473 prompts at batch 128 is about 58 optimiser steps per delta, and there are three."""
    recipe = next(path for path in RECIPES if "pda-reasoning" in path.stem)
    steps = [unit.work.steps for unit in plan_for(load_recipe(recipe), Path("x")).units if unit.stage == "adapters"]
    assert steps[:3] == [59, 59, 59]


def test_deltas_trained_together_are_one_unit_a_seed_and_control() -> None:
    """Their adapters are artifacts of the names that they have anyhow; the baselines are trained alone."""
    recipe = next(path for path in RECIPES if path.stem == "micro")
    settings = ["domains.search.training.together=true", "baselines=[joint]", "seeds=[0, 1]"]
    alone, units = (plan_for(load_recipe(recipe, each), Path("x")).units for each in (settings[1:], settings))
    places = {unit.name: place for place, unit in enumerate(units)}
    assert places.keys() - {unit.name for unit in alone} == {
        f"search/together/{name}" for name in ("0/deltas", "1/deltas", "0/sft", "0/shuffled", "0/reversed")
    }
    assert all(places[given] < places[unit.name] for unit in units for given in unit.inputs.values())
    by_name = {unit.name: unit for unit in units}
    assert by_name["search/adapters/1/ash"].inputs == {"together": "search/together/1/deltas"}
    assert by_name["search/adapters/0/sft.ash"].config["training"]["objective"]["name"] == "sft"
    assert by_name["search/adapters/0/joint"].config["training"]["together"] is False
    steps = [sum(unit.work.steps for unit in each) for each in (alone, units)]
    assert steps[0] == steps[1]


def test_a_training_too_short_to_be_felt_is_told(small_recipe: Path, tmp_path: Path) -> None:
    settings = ["domains.search.training.learning_rate=1e-5"]
    recipe = load_recipe(small_recipe, settings)
    assert isinstance(recipe, Recipe)
    (told,) = plan_for(recipe, tmp_path / "run").warnings
    assert "at learning rate 1e-05 barely change the student" in told
    strong = load_recipe(small_recipe, ["domains.search.training.learning_rate=1e-3"])
    assert plan_for(strong, tmp_path / "run").warnings == []


def test_a_models_size_is_exact_for_a_folder_and_guessed_from_a_hub_name() -> None:
    local = model_size(ModelRef(path="micro:student"))
    assert local is not None
    assert not local.guessed
    guessed = model_size(ModelRef(path="Qwen/Qwen3-8B"))
    assert guessed is not None
    assert guessed.guessed
    assert guessed.parameters == 8_000_000_000
    assert model_size(ModelRef(path="org/nameless")) is None
    assert model_size(ModelRef(path="microsoft/Phi-3-medium-4k-instruct")) is None  # 4k is its context


def test_settings_hold_no_machine_path() -> None:
    assert portable({"a": ["/home/me/x.jsonl"], "b": "org/name", "c": 1}) == {"a": ["x.jsonl"], "b": "org/name", "c": 1}


def test_a_plan_tells_of_the_model_that_scores_answers(tmp_path: Path) -> None:
    """Its weights are fetched like those of the models that answer."""
    domain = "domains.reasoning"
    settings = [f"{domain}.scoring={{model: org/reward-3B}}", f"{domain}.pairing.rule=score"]
    plan = plan_for(load_recipe(REPOSITORY / "recipes" / "micro.yaml", settings), tmp_path)
    console = Console(record=True, width=120, file=(tmp_path / "out").open("w"))
    console.print(plan.table())
    told = console.export_text()
    assert "org/reward-3B" in told
    assert "5.6 GiB for weights to be fetched" in told


@pytest.mark.parametrize("setting", ["dtype=bfloat16", "thinking=true", "engine=vllm"])
def test_a_student_that_answers_in_another_way_is_tested_again(setting: str, tmp_path: Path) -> None:
    tested = []
    for settings in ([], [f"student.{setting}"]):
        units = plan_for(load_recipe(REPOSITORY / "recipes" / "micro.yaml", settings), tmp_path).units
        tested.append(next(unit.config for unit in units if unit.name == "reasoning/test/0/student"))
    assert tested[0] != tested[1]


def test_files_below_home_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    answers = Sample("i", (Span("a"),), "stop", 1), Sample("i", (Span("b"),), "stop", 1)
    write_rows(tmp_path / "rows.jsonl", [Pair("0", "t", ({"role": "user", "content": "why?"},), *answers)])
    benchmark = Benchmark.model_validate({"name": "kept", "pairs": "~/rows.jsonl", "validation": 0})
    assert evaluation_texts([benchmark]) == {"kept": ["why?"]}
    (tmp_path / "stories").mkdir()
    (unit,) = Student(ModelRef(path="~/stories", format="llama2c"), tmp_path / "run").units
    with pytest.raises(PrefdeltaError, match=f"{tmp_path}/stories must hold exactly one llama2.c checkpoint"):
        unit.make(tmp_path / "work", {}, RunContext())


def test_what_a_model_is_told_is_no_path() -> None:
    told = [
        {"source": "/x/q.jsonl", "system": f"{mode} Say yes/no.", "template": "/a/b"} for mode in ("/think", "/quiet")
    ]
    assert [portable(each) for each in told] == [{**each, "source": "q.jsonl"} for each in told]


def test_seeds_depend_on_every_part() -> None:
    seeds = {seed_from(0, "ash"), seed_from(1, "ash"), seed_from(0, "elm"), seed_from(0)}
    assert len(seeds) == 4
    assert seed_from(0, "ash") == seed_from(0, "ash")


def test_the_demo_is_the_full_experiment_with_one_seed() -> None:
    import prefdelta.micro

    demo = load_recipe(Path(prefdelta.micro.__file__).with_name("demo.yaml"))
    full = load_recipe(Path(__file__).parents[2] / "recipes" / "micro.yaml")
    assert isinstance(demo, Recipe)
    assert isinstance(full, Recipe)
    assert demo.seeds == full.seeds[:1]
    assert {name: domain.training for name, domain in demo.domains.items()} == {
        name: domain.training for name, domain in full.domains.items()
    }
    assert set(demo.merge.methods) <= set(full.merge.methods)
    assert demo.merge.selection.by == full.merge.selection.by
