"""What can be known is refused when the plan is made, in one sentence that names the key; nothing is written."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Pair, Sample, Span, write_rows
from prefdelta.experiments.kinds import plan_for
from prefdelta.recipe import load_recipe
from whole_runs import command

MICRO = Path(__file__).parents[2] / "recipes" / "micro.yaml"
VISION = Path(__file__).parents[2] / "recipes" / "suite-vision.yaml"
D = "domains.reasoning"
LONG = "1 2 3 " * 150


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("merge.methods=[averge]", r"merge\.methods\.0: there is no merge method 'averge'; did you mean 'average'"),
        (
            "merge.methods=[{name: ties, options: {densty: 0.3}}]",
            r"merge\.methods\.0: merge method 'ties': unknown option 'densty'; did you mean 'density'",
        ),
        ("merge.methods=[{name: ties, options: {density: 3}}]", r"merge\.methods\.0: .*density"),
        ("merge.methods=[slerp]", r"merge\.methods: domain 'reasoning': merge method slerp takes exactly 2 adapters"),
        ("merge.methods=[average, average]", "merge name 'average' is used twice"),
        ("merge.methods=[]", r"merge\.methods: "),
        ("merge.scales=[1, -2]", r"merge\.scales\.1: input should be greater than 0"),
        ("merge.selection.by=agrement", r"merge\.selection\.by: .*agreement"),
        ("merge.selection.budget=4", r"merge\.selection\.budget: "),
        ("merge.scales=[1, .inf]", "numbers must be finite"),
        ("merge.methods=[{name: ties, scales: [2]}]", "scales must contain 1.0"),
        ("domains={}", "domains: "),
        (f"{D}.deltas=[{{name: gam, weak: a, weaker: b}}]", "has a delta called 'gam', as a merge is"),
        (f"{D}.deltas=[{{name: Student, weak: a, weaker: b}}]", "a delta called 'Student', as the student is"),
        (f"{D}.deltas=[{{name: d, weak: x/a, weaker: y/a}}]", "two different sources are called 'a'"),
        (f"{D}.deltas=[{{name: {'d' * 101}, weak: a, weaker: b}}]", "has 101 characters; 100 are allowed"),
        (f"{D}.training.objective=dop", rf"{D}\.training: there is no objective 'dop'; did you mean 'dpo'"),
        (f"{D}.training.bata=0.1", rf"{D}\.training: objective 'dpo': unknown option 'bata'; did you mean 'beta'"),
        (f"{D}.training.batch_size=100000", rf"{D}\.training: .* are one step, whose learning rate is 0"),
        (
            f"{D}.training={{together: true, lora: {{dropout: 0.1}}}}",
            rf"{D}\.training: together .* set lora\.dropout to 0",
        ),
        (f"{D}.training={{together: true, tracker: wandb}}", "tracker 'wandb' follows one training"),
        (
            f"{D}.training.together=true & {D}.deltas=[{{name: d, weak: a, weaker: b}}]",
            rf"{D}: training\.together needs two deltas or more",
        ),
        ("seeds=[3, 0, 3]", "seed 3 is given twice; keep one"),
        ("control_seeds=[0, 7]", "control_seeds names 7, which is none of seeds"),
        ("merge.scales=[1, 2.0000001, 2]", "scale 2.0000001 and 2.0 are shown alike; keep one"),
        (f"{D}.pairing.rule=ordr", "pairing by 'ordr' with these gaps needs scores"),
        (f"{D}.scoring={{scorer: exact}}", rf"{D}\.scoring: there is no scorer 'exact'; did you mean 'exact-match'"),
        ("domains.search.search.protocol=plane", r"domains\.search\.search: there is no search protocol 'plane'"),
        (f"{D}.benchmarks=[{{name: b, questions: {{source: 'micro:chain'}}, test: 1}}]", "an interval needs 2 items"),
        (
            f"{D}.held_out=3 & {D}.benchmarks=[{{name: b, pairs: {{held_out: ash}}, validation: 2}}]"
            " & evaluate_weak=false",
            r"benchmarks\.0: at most 3 pairs on 3 prompts are held out",
        ),
        (f"{D}.prompts.examples=[{{role: user}}]", r"prompts\.examples\.0: a message is a role and a content"),
        ("domains.search.search.corpus='http://me:pass@host/x'", "a URL holds no user, password or query"),
        ("domains.search.search.corpus='https://host/x?key=1'", "a URL holds no user, password or query"),
        ("domains.search.search.retriever=bm52", "there is no retriever 'bm52'; did you mean 'bm25'"),
    ],
    ids=lambda value: value[:40],
)
def test_a_recipe_that_cannot_work_is_refused_at_once(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=message) as caught:
        plan_for(load_recipe(MICRO, setting.split(" & ")), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (f"{D}.prompts={{source: ./none.jsonl, count: 600}}", rf"{D}\.prompts\.source: there is no file .*none\.jsonl"),
        (f"{D}.prompts={{source: '~nobody-here/x', count: 600}}", r"there is no file ~nobody-here/x"),
        (f"{D}.prompts={{source: {'x' * 5000}, count: 600}}", r"there is no file x"),
        (
            f"{D}.deltas=[{{name: d, weak: {{path: no.jsonl, format: samples}}, weaker: b}}]",
            "there is no file no.jsonl",
        ),
        (f"{D}.scoring={{path: no.jsonl}}", rf"{D}\.scoring\.path: there is no file no\.jsonl"),
        ("domains.search.search.corpus=./no.jsonl", r"domains\.search\.search\.corpus: there is no file .*no\.jsonl"),
        (
            f"{D}.deltas=[{{name: d, weak: ./no-model, weaker: 'micro:student'}}]",
            rf"{D}\.deltas\.0\.weak: no model folder at .*no-model",
        ),
        (
            f"{D}.pairing={{rule: order, min_gap: 0.5}} & {D}.scoring={{path: '{{source}}.jsonl'}}",
            r"reasoning/scores/ash-weak would read ash-weak\.jsonl, which is not there",
        ),
        (
            f"{D}.training.max_length=12",
            rf"{D}\.prompts: the shortest of \d+ prompts has \d+ tokens and leaves no room for an answer within",
        ),
        (
            f"{D}.benchmarks=[{{name: b, questions: {{source: 'micro:chain', template: '{LONG}{{question}}'}}}}]",
            rf"{D}\.benchmarks\.0: the question '.*' has \d+ tokens, and micro:student reads at most \d+; leave it out",
        ),
    ],
    ids=["missing", "home", "long", "answers", "scores", "corpus", "model", "by source", "no room", "too long"],
)
def test_a_dry_run_names_the_file_that_is_not_there(
    setting: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [word for one in setting.split(" & ") for word in ("--set", one)]
    assert command("run", MICRO, "--dry-run", *settings) == 2
    told = capsys.readouterr()
    assert re.search(message, " ".join((told.out + told.err).split()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["items", "pairs"])
def test_a_file_that_leaves_one_test_item_is_told_before_anything_runs(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = tuple({"role": "user", "content": f"2+{place}?"} for place in range(1))
    answers = [Sample("i", (Span(text),), "stop", 1) for text in "45"]
    rows: list[Any] = [Item(str(place), "t", ({"role": "user", "content": str(place)},), ("4",)) for place in range(3)]
    if kind == "pairs":  # many of one prompt
        rows = [Pair(str(place), "t", asked, answers[0], answers[1]) for place in range(9)]
    write_rows(tmp_path / "rows.jsonl", rows)
    made = {"items": "questions: {source: ~/rows.jsonl}", "pairs": "pairs: ~/rows.jsonl"}[kind]
    monkeypatch.setenv("HOME", str(tmp_path))
    setting = f"{D}.benchmarks=[{{name: b, {made}, validation: 2}}]"
    assert command("run", MICRO, "--dry-run", "--set", setting, "--set", "evaluate_weak=false") == 2
    assert "leaves 1 item (or prompt of pairs) to test on" in " ".join(capsys.readouterr().err.split())


def test_a_method_with_options_scales_and_a_label_is_a_merge_of_its_own(tmp_path: Path) -> None:
    methods = "[average, ties, {name: ties, options: {density: 0.5}}, {name: ties, label: wide, scales: [1, 2]}]"
    plan: Any = plan_for(load_recipe(MICRO, [f"merge.methods={methods}", "baselines=[]", "controls=[]"]), tmp_path)
    merges = {unit.name.rsplit("/", 1)[-1]: unit for unit in plan.units if unit.name.startswith("reasoning/merges/0/")}
    assert set(merges) == {"average", "ties", "ties-density-0.5", "wide"}
    assert merges["ties-density-0.5"].config["options"] == {"density": 0.5}
    scales = {unit.name: unit.config["scales"] for unit in plan.units if unit.stage == "validation"}
    assert scales["reasoning/validation/wide"] == [1.0, 2.0]
    assert scales["reasoning/validation/ties"] == "auto"


def test_options_of_a_suite_are_checked_too(tmp_path: Path) -> None:
    methods = "[{name: ties, options: {densty: [0.2]}, scales: [1]}]"
    with pytest.raises(PrefdeltaError, match=r"methods\.0: merge method 'ties': unknown option 'densty'"):
        plan_for(load_recipe(VISION, [f"methods={methods}", "budget=1", "preference=null"]), tmp_path)


def test_what_a_merge_is_chosen_by_follows_what_can_be_parsed(tmp_path: Path) -> None:
    benchmarks = "[{name: chain, questions: {source: 'micro:chain'}, validation: %d, test: 4}]"

    def plan(validation: int, *settings: str) -> Any:
        changed = [f"{D}.benchmarks={benchmarks % validation}", "controls=[]", *settings]
        return plan_for(load_recipe(MICRO, changed), tmp_path)

    assert [plan(count).domains["reasoning"].by for count in (8, 0)] == ["agreement", "pairs"]
    for by in ("agreement", "labels"):
        with pytest.raises(PrefdeltaError, match=f"domain 'reasoning': merge.selection.by is '{by}', but no benchmark"):
            plan(0, f"merge.selection.by={by}")
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(plan(8).table())
    assert "chosen by agreement; at most 54 merges of 3 seeds answer 8 items twice each" in console.export_text()
