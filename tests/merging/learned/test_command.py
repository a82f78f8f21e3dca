"""``prefdelta learn``, from files to an adapter that the other commands take."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_fixtures import save_lora
from prefdelta.adapters import Adapter
from prefdelta.core.models import load
from prefdelta.core.records import Item, Pair, Sample, Span, write_rows
from prefdelta.generation.prompts import draw_prompts
from prefdelta.merging.learned.report import read_report
from prefdelta.recipe import ModelRef, Prompts
from prefdelta.report.results import read_results
from prefdelta.report.viewer import collect
from whole_runs import command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("command")
    base = load(ModelRef(path="micro:student")).model
    for index, name in enumerate(("a", "b")):
        save_lora(base, root / name, seed=index, size=0.05, r=2, target_modules=["q_proj", "v_proj"])
    items = draw_prompts(Prompts(source="micro:search", count=6))

    def answer(item: Item, text: str) -> Sample:
        return Sample(item.id, (Span(text),), "stop", 1)

    for name, rejected in (("first", "sum"), ("second", "guess")):
        rows = [
            Pair(item.id, item.task, item.messages, answer(item, item.answers[0]), answer(item, rejected))
            for item in items
        ]
        write_rows(root / f"{name}.jsonl", rows)
    return root


def test_learning_from_the_command_line(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = ["learn", "a", "b", "--base", "micro:student", "--pairs", "first.jsonl", "--pairs", "second.jsonl"]
    words += ["-o", "out", "--method", "ada-task", "--set", "steps=3", "--set", "preference=[0.75,0.25]"]
    assert command(*words) == 0
    told = capsys.readouterr().out
    assert "ada-task: 2 coefficients, 3 steps" in told
    report = read_report(folder / "out")
    assert read_results(folder / "out" / "learning.json") == report
    assert report.settings["preference"] == [0.75, 0.25]
    assert [task.name for task in report.tasks] == ["a", "b"]
    assert Adapter.open(folder / "out").modules == Adapter.open(folder / "a").modules
    (chart,) = collect(folder / "out").charts
    assert [(curve.name, curve.rows[0][1], curve.rows[-1][1]) for curve in chart.curves] == [
        (task.name, pytest.approx(task.first), pytest.approx(task.last)) for task in report.tasks
    ]
    assert "base_model" in (folder / "out" / "README.md").read_text()

    # The same again is there already; another file of pairs makes another merge.
    before = (folder / "out" / "manifest.json").stat().st_mtime_ns
    assert command(*words) == 0
    assert (folder / "out" / "manifest.json").stat().st_mtime_ns == before
    words[words.index("second.jsonl")] = "first.jsonl"
    assert command(*words) == 2
    assert command(*words, "--overwrite") == 0
    again = read_report(folder / "out")
    assert again.tasks[0].first == report.tasks[0].first
    assert again.tasks[1].first != report.tasks[1].first


def test_mistakes_are_one_sentence(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = ["learn", "a", "b", "--base", "micro:student", "-o", "nothing"]
    for more, message in (
        ([], "give either files of pairs"),
        (["--pairs", "first.jsonl", "--method", "tara"], "no learned merge 'tara'"),
        (["--pairs", "first.jsonl", "--set", "steps=0"], "steps"),
        (["--pairs", "first.jsonl", "--set", "preference=[1,1]"], "2 weights for 1 tasks"),
        (["--pairs", "absent.jsonl"], "absent.jsonl"),
        (["--pairs", "first.jsonl", "--set", "objective=wrpo"], "not learned by the objective 'wrpo'"),
        (["--pairs", "first.jsonl", "--set", "beta=0"], "beta"),
        (["--prompts", "first.jsonl"], "'dpo' learns from pairs"),
    ):
        assert command(*words, *more) == 2
        assert message in capsys.readouterr().err
    assert not (folder / "nothing").exists()
