"""Preference pairs as a benchmark: margins are those of the model's own probabilities, and reach every command."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from prefdelta import merge, micro
from prefdelta.adapters.trained import read_own_scale
from prefdelta.core.chat import completion_ids, prompt_ids
from prefdelta.core.config import configure
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel, load
from prefdelta.core.records import Pair, Record, Sample, Span, read_rows, write_rows
from prefdelta.core.store import Store
from prefdelta.evaluation.pair_margins import PairMargins, PairRows, pair_records
from prefdelta.evaluation.results import AggregationResults, EvaluationResults
from prefdelta.experiments.execution.make import build
from prefdelta.experiments.run import run_recipe
from prefdelta.experiments.single.evaluation import evaluate_unit, read_score
from prefdelta.experiments.single.training import read_training, train_unit
from prefdelta.experiments.unit import RunContext, Unit
from prefdelta.recipe import ModelRef, Recipe
from prefdelta.report.results import read_results
from prefdelta.training.own_scale import fitted_scale

TRAINED = ("beta=0.5", "learning_rate=0.01", "batch_size=8", "micro_batch_size=8", "lora.r=4", "lora.alpha=8")


def pairs(count: int, split: str = "train", better: str = "2") -> list[Pair]:
    """To every question, ``better`` is preferred over 1."""
    return [
        Pair(item.id, item.task, tuple(item.messages), *(answer(item.id, digit) for digit in (better, "1")))
        for item in micro.items("chain", split=split, count=count)
    ]


def answer(item: str, digit: str) -> Sample:
    return Sample(item, (Span(f"<answer>{digit}</answer>"),), "stop", tokens=0)


def made(unit: Unit, root: Path, **telling: Any) -> Path:
    return build(replace(unit, name="out"), Store(root, journal=False), {}, RunContext(**telling)).path


@pytest.fixture(scope="module")
def student() -> LoadedModel:
    return load(ModelRef(path="micro:student"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An adapter that prefers 2 over 1, measured on pairs that it was not trained on."""
    root = tmp_path_factory.mktemp("trained")
    write_rows(root / "pairs.jsonl", pairs(24))
    write_rows(root / "held.jsonl", pairs(12, "test"))
    unit = train_unit(root / "pairs.jsonl", "micro:student", None, root / "held.jsonl", 0, TRAINED)
    folder = made(unit, root)
    return folder, read_training(folder)


def test_the_margin_is_that_of_the_models_own_probabilities(student: LoadedModel, trained: tuple[Path, str]) -> None:
    rows = PairRows.of(pairs(3, "test"), student)
    found = PairMargins(student, rows.rows)(trained[0], 1.0)
    peft = PeftModel.from_pretrained(load(ModelRef(path="micro:student")).model, trained[0]).eval()
    for place, pair in enumerate(rows.pairs):
        ratios = [_logprob(peft, student, pair, side) - _logprob(student.model, student, pair, side) for side in (0, 1)]
        assert float(found[place]) == pytest.approx(ratios[0] - ratios[1], abs=2e-4)


@torch.no_grad()
def _logprob(model: Any, loaded: LoadedModel, pair: Pair, side: int) -> float:
    prompt = prompt_ids(loaded.tokenizer, pair.prompt, loaded.thinking)
    response, _ = completion_ids(loaded.tokenizer, pair.responses[side])
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) + place - 1, token]) for place, token in enumerate(response))


def test_the_model_alone_prefers_neither(student: LoadedModel) -> None:
    rows = PairRows.of(pairs(4, "test"), student)
    found = pair_records("kept", rows, PairMargins(student, rows.rows), None, 1.0, beta=0.1, thinking=False)
    assert {(record.score, record.parsed, record.extra["margin"]) for record in found} == {(0.5, "neither", 0.0)}
    assert all(record.extra["loss"] == pytest.approx(math.log(2)) for record in found)
    assert not any(record.unparsed or record.group for record in found)


def test_pairs_of_one_prompt_are_one_group_and_long_answers_are_cut(student: LoadedModel) -> None:
    one, *others = pairs(3, "test")
    twice = [one, replace(one, id="again", chosen=answer(one.id, "3")), *others]
    whole = PairRows.of(twice, student)
    rows = PairRows.of(twice, student, max_length=max(row.length for row in whole.rows) - 1)
    found = pair_records("kept", rows, PairMargins(student, rows.rows), None, 1.0, beta=0.1, thinking=False)
    assert len({record.group for record in found}) == 3
    assert any(record.extra["cut"] for record in found)
    assert not any(whole.cut)


def test_a_training_tells_what_its_adapter_prefers_among_held_out_pairs(trained: tuple[Path, str]) -> None:
    folder, told = trained
    records = read_rows(folder / "held_out" / "records.jsonl", Record)
    assert len(records) == 12
    results = read_results(folder / "held_out" / "results.json")
    assert isinstance(results, EvaluationResults)
    assert results.score == pytest.approx(100 * sum(record.score for record in records) / 12, abs=1e-3)
    assert results.score > 90
    assert f"held out: prefers the chosen answer of {results.score:.1f} % of 12 pairs; margin +" in told


def test_a_training_stores_the_own_scale_of_its_held_out_pairs(trained: tuple[Path, str]) -> None:
    records = read_rows(trained[0] / "held_out" / "records.jsonl", Record)
    margins = torch.tensor([record.extra["margin"] for record in records])
    own = read_own_scale(trained[0])
    assert own is not None
    assert own.pairs == 12
    assert own.margin == pytest.approx(float(margins.mean()), abs=1e-3)
    assert own.scale == pytest.approx(fitted_scale(margins), rel=1e-2)


def test_pairs_that_were_trained_on_are_told(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", pairs(16))
    told: list[str] = []
    unit = train_unit(tmp_path / "pairs.jsonl", "micro:student", None, tmp_path / "pairs.jsonl", 0, TRAINED)
    folder = made(unit, tmp_path, tell=told.append)
    assert "16 of 16 held-out pairs answer prompts that were trained on" in told[-1]
    assert read_own_scale(folder) is None


def test_evaluate_measures_a_file_of_pairs(tmp_path: Path, trained: tuple[Path, str]) -> None:
    write_rows(tmp_path / "held.jsonl", pairs(6, "test"))
    asked = {"items": f"pairs:{tmp_path / 'held.jsonl'}", "scorer": None, "count": None, "data": None}
    given: dict[str, Any] = {"scale": 1.0, "seed": 0, "search": None}
    settings = ("beta=0.5", "model.dtype=float32")
    unit = evaluate_unit("micro:student", None, asked, str(trained[0]), settings=settings, **given)
    folder = made(unit, tmp_path)
    records = read_rows(folder / "records.jsonl", Record)
    margins = [record.extra["margin"] for record in records]
    assert [record.extra["loss"] for record in records] == pytest.approx(
        [math.log1p(math.exp(-0.5 * margin)) for margin in margins], rel=1e-6
    )
    results = read_results(folder / "results.json")
    assert isinstance(results, EvaluationResults)
    measures = results.tasks["held"].measures
    assert measures is not None
    assert measures["margin"].low < sum(margins) / 6 < measures["margin"].high
    assert read_score(folder).startswith("prefers the chosen answer of ")
    with pytest.raises(PrefdeltaError, match="a server does not tell"):
        made(evaluate_unit("m", "http://localhost:1/v1", asked, None, settings=(), **given), tmp_path / "served")
    with pytest.raises(PrefdeltaError, match=r"unknown key .pairs\.temperature."):
        evaluate_unit("micro:student", None, asked, None, settings=("temperature=1",), **given)


def recipe(root: Path, **domain: Any) -> Recipe:
    """Two deltas between files of answers to the same prompts, and what was held out of each."""
    items = micro.items("chain", split="train", count=20)
    write_rows(root / "items.jsonl", items)
    for name, digit in {"low": "1", "two": "2", "three": "3"}.items():
        write_rows(root / f"says-{name}.jsonl", [answer(item.id, digit) for item in items])
    low = {"path": str(root / "says-low.jsonl"), "format": "samples"}
    raw: dict[str, Any] = {
        "prompts": {"source": str(root / "items.jsonl"), "count": 20},
        "held_out": 8,
        "deltas": [
            {"name": name, "weak": {"path": str(root / f"says-{name}.jsonl"), "format": "samples"}, "weaker": low}
            for name in ("two", "three")
        ],
        "training": {
            "learning_rate": 0.01,
            "batch_size": 6,
            "micro_batch_size": 6,
            "lora": {"r": 2, "alpha": 4},
        },
        "benchmarks": [
            {"name": f"keeps-{name}", "pairs": {"held_out": name}, "validation": 3, "test": 5}
            for name in ("two", "three")
        ],
        **domain,
    }
    merge = {"methods": ["average"], "scales": [1.0, 2.0]}
    given = {"name": "kept", "student": "micro:student", "domains": {"digits": raw}, "merge": merge}
    return configure(Recipe, given, origin="recipe")


def test_a_run_measures_what_its_merge_keeps_of_every_delta(tmp_path: Path) -> None:
    asked = recipe(tmp_path)
    run_recipe(asked, tmp_path / "run")
    made = tmp_path / "run" / "digits"
    held = {pair.id for pair in read_rows(made / "pairs" / "two" / "held_out.jsonl", Pair)}
    assert len(held) == 8
    assert held == {pair.id for pair in read_rows(made / "pairs" / "three" / "held_out.jsonl", Pair)}
    assert not held & {pair.id for pair in read_rows(made / "pairs" / "two" / "pairs.jsonl", Pair)}
    assert "held out of training, in `held_out.jsonl` | 8" in (made / "pairs" / "two" / "README.md").read_text()
    results = read_results(tmp_path / "run" / "results.json")
    assert isinstance(results, AggregationResults)
    assert "What each model prefers" in (tmp_path / "run" / "report.html").read_text()
    found = results.domains["digits"].methods
    assert found["student"].tasks["keeps-two"].score == 50
    own = found["two"].tasks["keeps-two"].measures
    merged = found["average"].tasks["keeps-two"].measures
    assert own is not None
    assert merged is not None
    assert own["margin"].mean > merged["margin"].mean > 0
    adapters = [made / "adapters" / "0" / name for name in ("two", "three")]
    stored = [read_own_scale(folder) for folder in adapters]
    assert [each.pairs for each in stored if each] == [8, 8]
    report = merge(adapters, tmp_path / "merged", method="ties", scale="stored")
    assert isinstance(report.scale, float)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"held_out": 0}, "needs pairs to test on; set the domain's held_out"),
        ({"held_out": 20}, "held_out leaves none of 20 prompts"),
        ({"benchmarks": [{"name": "kept", "pairs": {"held_out": "tow"}}]}, "did you mean 'two'?"),
        ({"benchmarks": [{"name": "kept", "pairs": {"beta": 1}}]}, "give either the path"),
        ({"benchmarks": [{"name": "kept", "pairs": "f.jsonl", "scorer": "choice"}]}, "scorer and pairs exclude"),
        (
            {
                "deltas": [{"name": "two", "weak": "micro:ash-weak", "weaker": "micro:ash-weaker"}],
                "benchmarks": [{"name": "kept", "pairs": "f.jsonl"}],
            },
            "set evaluate_weak to false",
        ),
    ],
)
def test_what_cannot_be_measured_is_told_when_the_recipe_is_read(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(PrefdeltaError, match=told.replace("?", r"\?")):
        recipe(tmp_path, **changes)
