"""A recipe's mistakes are told in one sentence that names the key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefdelta.core.errors import PrefdeltaError
from prefdelta.recipe import (
    Imported,
    ModelRef,
    Named,
    Recipe,
    Server,
    Training,
    configure,
    load_recipe,
    settings_mapping,
)
from prefdelta.recipe.suite import HubSource, SuiteRecipe

MINIMAL: dict[str, Any] = {
    "name": "small",
    "student": "org/student",
    "domains": {
        "d": {
            "prompts": {"source": "./prompts.jsonl", "count": 10},
            "deltas": [{"name": "one", "weak": "org/weak", "weaker": {"path": "./answers.jsonl", "format": "samples"}}],
            "benchmarks": [{"name": "b", "questions": {"source": "../items.jsonl"}}],
        }
    },
}


def load(path: Path, settings: Sequence[str] = ()) -> Recipe:
    recipe = load_recipe(path, settings)
    assert isinstance(recipe, Recipe)
    return recipe


def write(folder: Path, raw: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
    return path


def test_a_minimal_recipe_gets_defaults_and_absolute_paths(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, MINIMAL))
    domain = recipe.domains["d"]
    assert recipe.student == ModelRef(path="org/student")
    assert domain.prompts.source == str(tmp_path / "prompts.jsonl")
    assert domain.benchmarks[0].questions.source == str(tmp_path.parent / "items.jsonl")
    assert domain.deltas[0].weaker == Imported(path=str(tmp_path / "answers.jsonl"), format="samples")
    assert domain.training == Training()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "agregation"}, "unknown kind 'agregation'; did you mean 'aggregation'?"),
        ({"kind": ["aggregation"]}, "unknown kind"),
        ({"studnet": "x"}, "unknown key 'studnet'; did you mean 'student'?"),
        ({"training": {"beta": 1}}, "unknown key 'training'; it belongs under 'domains.NAME'."),
        ({"domains": {"d": {"merge": {}}}}, "unknown key 'domains.d.merge'; it belongs at the top."),
        ({"merge": {"scale": [1]}}, "unknown key 'merge.scale'; did you mean 'scales'?"),
        ({"merge": {"scales": [2.0]}}, "scales must contain 1.0"),
        ({"seeds": []}, "seeds"),
        ({"name": "No Spaces"}, "name"),
        ({"domains": {}}, "domains"),
        ({"student": None}, "student"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PrefdeltaError) as caught:
        load_recipe(write(tmp_path, {**MINIMAL, **change}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_deep_inside_is_named_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"unknown key 'domains\.d\.training\.lora\.alfa'; did you mean 'alpha'"):
        load_recipe(write(tmp_path, MINIMAL), ["domains.d.training.lora.alfa=3"])


def test_two_deltas_of_one_name_are_refused(tmp_path: Path) -> None:
    domain = MINIMAL["domains"]["d"]
    twice = {**MINIMAL, "domains": {"d": {**domain, "deltas": domain["deltas"] * 2}}}
    with pytest.raises(PrefdeltaError, match="delta name 'one' is used twice"):
        load_recipe(write(tmp_path, twice))


def test_benchmarks_that_would_be_answered_more_than_once_are_refused(tmp_path: Path) -> None:
    several = {"n": 2}
    domain = {**MINIMAL["domains"]["d"], "evaluation_sampling": several}
    with pytest.raises(
        PrefdeltaError, match=r"domains\.d: evaluation_sampling\.n must be 1: an item of a benchmark is"
    ):
        load_recipe(write(tmp_path, {**MINIMAL, "domains": {"d": domain}}))
    watch = {"benchmarks": MINIMAL["domains"]["d"]["benchmarks"], "sampling": several}
    with pytest.raises(PrefdeltaError, match=r"watch: sampling\.n must be 1: an item of a benchmark is"):
        load_recipe(write(tmp_path, {**MINIMAL, "watch": watch}))


@pytest.mark.parametrize(
    ("label", "owner"),
    [
        ("joint", "a baseline"),
        ("Student", "the student"),
        ("sft.average", "a control"),
        ("sequential.one", "a baseline"),
    ],
)
def test_a_merge_is_not_called_like_what_is_measured_beside_it(tmp_path: Path, label: str, owner: str) -> None:
    raw = {**MINIMAL, "baselines": ["joint", "sequential"], "controls": ["sft"]}
    raw["merge"] = {"methods": [{"name": "ties", "label": label}]}
    with pytest.raises(
        PrefdeltaError, match=f"domain 'd' has a merge called '{label}', as {owner} is; rename the merge"
    ):
        load_recipe(write(tmp_path, raw))


@pytest.mark.parametrize("raw", ["a: [", "- a list", "just words", ""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, raw: str) -> None:
    with pytest.raises(PrefdeltaError) as caught:
        load_recipe(write(tmp_path, raw))
    assert "recipe.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"no recipe at .*none\.yaml"):
        load_recipe(tmp_path / "none.yaml")


def test_settings_change_a_recipe(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, MINIMAL), ["seeds=[3, 4]", "domains.d.training.beta=0.25"])
    assert recipe.seeds == (3, 4)
    assert recipe.domains["d"].training.objective == Named(name="dpo", options={"beta": 0.25})


@pytest.mark.parametrize("setting", ["beta", "=1", "beta=[", "beta.deeper.still"])
def test_a_malformed_setting_is_refused(setting: str) -> None:
    with pytest.raises(PrefdeltaError, match="--set"):
        settings_mapping([setting])


def test_a_setting_below_a_plain_model_keeps_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {**MINIMAL, "student": "./student"})
    assert load(path, ["student.dtype=float32"]).student == ModelRef(path=str(tmp_path / "student"), dtype="float32")
    monkeypatch.chdir(tmp_path.parent)  # a path that is typed is meant from where it is typed
    assert load(path, ["student.path=./other"]).student == ModelRef(path=str(tmp_path.parent / "other"))
    assert load(path, ["student=../other"]).student == ModelRef(path=str(tmp_path.parent.parent / "other"))


def test_a_setting_below_a_plain_name_keeps_the_name(tmp_path: Path) -> None:
    changed = {"training": {"objective": "ipo"}}
    path = write(tmp_path, {**MINIMAL, "domains": {"d": {**MINIMAL["domains"]["d"], **changed}}})
    found = load(path, ["domains.d.training.objective.options.beta=0.25"]).domains["d"].training.objective
    assert found == Named(name="ipo", options={"beta": 0.25})


def test_a_local_tokenizer_and_a_local_data_set_are_beside_the_recipe(tmp_path: Path) -> None:
    weak = {"url": "http://localhost/v1", "model": "m", "tokenizer": "./tokens"}
    delta = {**MINIMAL["domains"]["d"]["deltas"][0], "weak": weak}
    path = write(tmp_path, {**MINIMAL, "domains": {"d": {**MINIMAL["domains"]["d"], "deltas": [delta]}}})
    source = load(path).domains["d"].deltas[0].weak
    assert isinstance(source, Server)
    assert source.tokenizer == str(tmp_path / "tokens")
    suite = Path(__file__).parents[2] / "recipes" / "suite-vision.yaml"
    task = yaml.safe_load(suite.read_text())
    task["tasks"][0]["source"] = {"dataset": "imagefolder", "data_dir": "./pets"}
    read = load_recipe(write(tmp_path, task))
    assert isinstance(read, SuiteRecipe)
    assert isinstance(read.tasks[0].source, HubSource)
    assert read.tasks[0].source.data_dir == str(tmp_path / "pets")


def test_a_setting_below_a_plain_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="'name' holds no further keys"):
        load_recipe(write(tmp_path, MINIMAL), ["name.first=x"])


def test_every_model_is_frozen() -> None:
    training = configure(Training, {"epochs": 0.3}, origin="here")
    with pytest.raises(ValueError, match="frozen"):
        training.epochs = 0.4  # type: ignore[misc]


def test_defaults_of_training_are_those_of_the_paper() -> None:
    training = Recipe.model_validate(MINIMAL).domains["d"].training
    assert (training.lora.r, training.lora.alpha, training.learning_rate, training.batch_size) == (64, 128, 1e-5, 128)
