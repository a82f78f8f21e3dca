"""A fusion from sources to report: what it trains on what, what it leaves, and that kill -9 changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import load
from prefdelta.core.records import Demonstration, Item, Sample, Triple, read_rows
from prefdelta.core.store import Store
from prefdelta.experiments.checking import checked
from prefdelta.experiments.execution.make import build
from prefdelta.experiments.fusion.answers import merged_student
from prefdelta.experiments.fusion.learning import divide
from prefdelta.experiments.identity import seed_from
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.run import publish_again, run_recipe
from prefdelta.experiments.unit import RunContext
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.recipe import ModelRef, Sampling, load_recipe
from prefdelta.report.viewer import collect
from whole_runs import hashes, run_apart

RECIPES = Path(__file__).parents[2] / "recipes"
TRAINING: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 4,
    "micro_batch_size": 4,
    "max_length": 128,
    "checkpoint_steps": 1,
    "warmup_ratio": 0.0,
    "lora": {"r": 2, "alpha": 4},
}
SMALL: dict[str, Any] = {
    "kind": "fusion",
    "name": "small-fusion",
    "student": "micro:cedar-weak",
    "sources": ["micro:student", "micro:elm-weak"],
    "prompts": {"source": "micro:chain", "count": 24},
    "sampling": {"n": 4, "temperature": 1.0, "max_new_tokens": 24, "batch_size": 64},
    "scoring": {"model": "micro:reward", "batch_size": 32},
    "sft": TRAINING,
    "preference": {**TRAINING, "beta": 0.2, "alpha": 0.5},
    "comparisons": {"hybrid": {"chosen": "source", "training": {**TRAINING, "objective": "dpo"}}},
    "evaluate_sources": False,
    "benchmarks": [{"name": "chain", "questions": {"source": "micro:chain"}, "validation": 4, "test": 6}],
}
MOMENTS = [
    ("responses", "progress"),
    ("demonstrations", "publish"),
    ("triples", "publish"),
    ("adapters", "progress"),
    ("test", "publish"),
]


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    run_recipe(load_recipe(recipe), root)
    return root


def metrics(root: Path, method: str) -> list[dict[str, float]]:
    lines = (root / "adapters" / "0" / method / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("share", "shown", "left"), [(0.001, 0, 24), (0.999, 24, 0)])
def test_a_share_that_leaves_nothing_is_told_by_the_plan(share: float, shown: int, left: int, tmp_path: Path) -> None:
    message = f"leaves {shown} to fine-tune on and {left} for the preference; both need some"
    with pytest.raises(PrefdeltaError, match=message):
        plan_for(load_recipe(write(tmp_path, sft_share=share)), tmp_path / "run")


def test_the_prompts_are_divided_and_each_side_is_used_once(finished: Path) -> None:
    asked = {item.id for item in read_rows(finished / "prompts" / "prompts.jsonl", Item)}
    shown = {row.id for row in read_rows(finished / "demonstrations" / "0" / "demonstrations.jsonl", Demonstration)}
    left = {item.id for item in read_rows(finished / "demonstrations" / "0" / "prompts.jsonl", Item)}
    triples = {row.id for row in read_rows(finished / "triples" / "0" / "triples.jsonl", Triple)}
    assert (len(shown), len(left)) == (8, 16)
    assert shown | left == asked
    assert triples <= left


def test_the_best_source_answer_is_what_the_scores_say(finished: Path) -> None:
    scored: dict[tuple[str, int], tuple[float, str]] = {}
    for label in ("student", "elm-weak"):
        folder = finished / "responses" / "sources" / label
        texts = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
        scores = [
            json.loads(line)
            for line in (finished / "scores" / "sources" / label / "scores.jsonl").read_text().splitlines()
        ]
        for text, score in zip(texts, scores, strict=True):
            assert (text["item"], text["index"]) == (score["item"], score["index"])
            key = (text["item"], len([k for k in scored if k[0] == text["item"]]))
            scored[key] = (score["score"], "".join(span["text"] for span in text["spans"]))
    for row in read_rows(finished / "triples" / "0" / "triples.jsonl", Triple):
        best = max(score for (item, _), (score, _) in scored.items() if item == row.id)
        assert any(entry == (best, row.source.text) for (item, _), entry in scored.items() if item == row.id)


def test_the_reference_is_the_fine_tuned_student(finished: Path) -> None:
    """The policy begins where its reference is: at the SFT adapter, which is not zero. So every loss starts at ln 2."""
    for method in ("wrpo", "sft-dpo", "hybrid"):
        assert metrics(finished, method)[0]["loss"] == pytest.approx(0.6931, abs=2e-4)
    report = json.loads((finished / "adapters" / "0" / "wrpo" / "training.json").read_text())
    weights = (finished / "adapters" / "0" / "sft" / "adapter_model.safetensors").read_bytes()
    assert report["adapter_fingerprint"] == hashlib.sha256(weights).hexdigest()
    untouched = json.loads((finished / "adapters" / "0" / "hybrid" / "training.json").read_text())
    assert untouched["adapter_fingerprint"] is None


def test_the_control_differs_in_the_weight_of_the_source_only(finished: Path) -> None:
    """Without weight the first step is the same; the control's options are those of the main method less α."""
    main, control = metrics(finished, "wrpo"), metrics(finished, "sft-dpo")
    assert main[0]["alpha"] == 0
    assert main[-1]["alpha"] > 0
    assert main[0]["grad_norm"] == control[0]["grad_norm"]
    assert main[-1]["loss"] != control[-1]["loss"]
    settings = checked(load_recipe(write(finished.parent))).methods  # type: ignore[attr-defined]
    wrpo, dpo = settings["wrpo"].training, settings["sft-dpo"].training
    given = wrpo.objective.options
    assert dpo.objective.options == {name: value for name, value in given.items() if not name.startswith("alpha")}
    assert dpo.model_dump(exclude={"objective"}) == wrpo.model_dump(exclude={"objective"})


def test_without_weight_wrpo_is_its_control(recipe: Path, finished: Path, tmp_path: Path) -> None:
    """α = 0 gives the control's adapter, up to the rounding of other batches."""
    root = tmp_path / "run"
    plan = plan_for(load_recipe(recipe, ["preference.alpha=0.0"]), root)
    (unit,) = [unit for unit in plan.units if unit.name == "adapters/0/wrpo"]
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns("wrpo"))
    store = Store(root)
    inputs = {name: found for name in unit.inputs.values() if (found := store.get(name))}
    build(unit, store, inputs, RunContext())
    begun, control, zero, main = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (
            finished / "adapters" / "0" / "sft",
            finished / "adapters" / "0" / "sft-dpo",
            root / "adapters" / "0" / "wrpo",
            finished / "adapters" / "0" / "wrpo",
        )
    )
    for name, weight in control.items():
        moved = (weight - begun[name]).norm()
        assert (zero[name] - weight).norm() < 1e-3 * moved
        assert (main[name] - weight).norm() > 1e-3 * moved


def test_results_compare_the_main_method_with_every_other(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert (results["main"], results["control"]) == ("wrpo", "sft-dpo")
    assert {entry["with"] for entry in results["comparisons"]} == {"student", "sft", "sft-dpo", "hybrid"}
    methods = results["methods"]
    for entry in results["comparisons"]:
        gap = methods["wrpo"]["test"]["average"]["score"] - methods[entry["with"]]["test"]["average"]["score"]
        assert entry["mean"] == pytest.approx(gap, abs=1e-3)
        assert entry["low"] <= entry["mean"] <= entry["high"]
        assert entry["p_holm"] >= entry["p"]
    assert methods["hybrid"]["validation"]["score"] >= 0
    assert results["data"]["0"]["triples"]["items"] == 16
    page = (finished / "report.html").read_text()
    assert "wrpo against the others" in page
    assert "sft-dpo" in page


def test_the_viewer_shows_every_models_answers(finished: Path) -> None:
    methods = json.loads((finished / "results.json").read_text())["methods"]
    shown = collect(finished)
    (domain,) = shown.domains
    assert {model.name for model in domain.models} == set(methods)
    assert (domain.models[domain.base].name, domain.models[domain.rival].name) == ("student", "sft-dpo")
    main = domain.models[domain.choices[0]]
    gap = methods["wrpo"]["test"]["average"]["versus"]["student"]["mean"]
    assert main.name == "wrpo"
    assert float(main.to_base[0].text.split()[0].replace("−", "-")) == pytest.approx(gap, abs=0.05)
    for place, model in enumerate(domain.models):
        rows = [row for of_seed in domain.answers for row in of_seed[place]]
        assert 100 * sum(row.score for row in rows) / len(rows) == pytest.approx(model.score, abs=1e-3)
    assert all(domain.questions)


def test_the_result_is_one_adapter_of_the_untouched_student(finished: Path) -> None:
    config = json.loads((finished / "adapters" / "0" / "wrpo" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "micro:cedar-weak"
    assert config["r"] == 2


def test_a_finished_run_is_skipped_and_published_again_with_the_same_bytes(finished: Path, recipe: Path) -> None:
    before = hashes(finished)
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")}
    run_recipe(load_recipe(recipe), finished)
    publish_again(finished)
    assert hashes(finished) == before
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")} == times


def test_a_run_killed_at_every_stage_ends_with_the_same_hashes(finished: Path, recipe: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    for stage, moment in MOMENTS:
        assert run_apart(recipe, root, stage, moment) == -signal.SIGKILL, (stage, moment)
    run_recipe(load_recipe(recipe), root)
    assert hashes(root) == hashes(finished)
    assert not list(root.rglob("*.partial"))


def test_the_student_with_its_adapter_baked_in_gives_the_same_answers(finished: Path, tmp_path: Path) -> None:
    """What an engine that takes whole models samples is what the adapter's model is."""
    asked = read_rows(finished / "demonstrations" / "0" / "prompts.jsonl", Item)
    sampling = Sampling(**SMALL["sampling"])
    with merged_student(tmp_path, ModelRef(path="micro:cedar-weak"), finished / "adapters" / "0" / "sft") as merged:
        answers = TransformersSampler(load(merged), sampling).sample(requests_for(asked, seed_from(0, "own"), 4))
    assert answers == read_rows(finished / "responses" / "0" / "responses.jsonl", Sample)
    assert not any(tmp_path.iterdir())


def test_seeds_divide_the_prompts_differently_and_exactly() -> None:
    items = [Item(f"q{number}", "t", ({"role": "user", "content": "?"},)) for number in range(30)]
    first, rest = divide(items, 1 / 3, seed=0)
    assert (len(first), len(rest)) == (10, 20)
    assert sorted([*first, *rest], key=items.index) == items
    assert first != divide(items, 1 / 3, seed=1)[0]
    with pytest.raises(PrefdeltaError, match="leaves 0 to fine-tune"):
        divide(items, 0.01, seed=0)


def test_the_papers_recipe_has_the_papers_steps(tmp_path: Path) -> None:
    """59.9k prompts at batch 128: 156 steps on a third, 312 on the rest (the release drops the last batch: 311)."""
    plan = plan_for(load_recipe(RECIPES / "wrpo-llama3-8b.yaml"), tmp_path)
    steps = {unit.name.split("/")[-1]: unit.work.steps for unit in plan.units if unit.stage == "adapters"}
    assert steps["sft"] == 156
    assert steps["wrpo"] == steps["sft-dpo"] == 312
    sampled = [unit.work.samples for unit in plan.units if unit.name.startswith("responses/sources/")]
    assert sampled == [5 * 59_876] * 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sft": {**TRAINING, "objective": "dpo"}}, "sft.objective is 'dpo'"),
        ({"preference": {**TRAINING, "objective": "dpo"}}, "preference.objective is 'dpo'"),
        ({"preference": {**TRAINING, "lora": {"r": 4}}}, "preference.lora must have the r and alpha of sft.lora"),
        ({"sampling": {"n": 1}}, "sampling.n must be 2 or more"),
        ({"evaluation_sampling": {"n": 2}}, "evaluation_sampling.n must be 1"),
        ({"comparisons": {"sft-dpo": {"training": TRAINING}}}, "that name is taken"),
        ({"comparisons": {"x": {"chosen": "source", "training": {"objective": "wrpo"}}}}, "takes both answers"),
        ({"comparisons": {"x": {"training": {"objective": "sft"}}}}, "learns no preference"),
        ({"preference": {**TRAINING, "together": True}}, "preference.together: a fusion trains with other objectives"),
        ({"benchmarks": SMALL["benchmarks"] * 2}, "benchmark name 'chain' is used twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_told_in_a_sentence(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=message):
        load_recipe(write(tmp_path, **changes))


def test_methods_have_one_order_whatever_the_recipe_says(tmp_path: Path) -> None:
    """A report that is written again, from the recipe that a run directory keeps with sorted keys, is the same."""
    names = ("zeta", "alpha")
    recipe = load_recipe(write(tmp_path, comparisons={name: {"training": {"objective": "dpo"}} for name in names}))
    assert list(recipe.methods) == ["wrpo", "sft-dpo", "alpha", "zeta"]  # type: ignore[attr-defined]


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="two different sources are called 'same'"):
        load_recipe(write(tmp_path, sources=["one/same", "two/same"]))
    named = [{"path": "one/same", "name": "first"}, "two/same"]
    plan = plan_for(load_recipe(write(tmp_path, sources=named)), tmp_path)
    assert {"responses/sources/first", "responses/sources/same"} <= {unit.name for unit in plan.units}
