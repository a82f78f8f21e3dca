"""A recipe that watches unrelated tasks: they are answered with and without each delta, and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefdelta.core.records import Record, read_rows
from prefdelta.experiments.kinds import plan_for
from prefdelta.experiments.run import run_recipe
from prefdelta.recipe import configure_recipe

WATCH = {
    "sampling": {"temperature": 1.0, "max_new_tokens": 24, "batch_size": 64},
    "benchmarks": [
        {"name": "relay", "questions": {"source": "micro:relay"}, "test": 48},
        {"name": "ledger", "lm_eval": "prefdelta_micro_ledger", "validation": 0, "test": 16},
    ],
}


@pytest.fixture(scope="module")
def run(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lm_eval")
    raw = {**small, "controls": [], "evaluate_weak": False, "watch": WATCH}
    root = tmp_path_factory.mktemp("watched") / "run"
    run_recipe(configure_recipe(raw, origin="small"), root)
    return root


def test_every_variant_answers_the_watched_items(run: Path) -> None:
    folder = run / "search" / "watch" / "0"
    variants = {path.name: read_rows(path / "records.jsonl", Record) for path in folder.iterdir() if path.is_dir()}
    assert set(variants) == {"student", "merge", "without-ash", "without-elm"}
    asked = [(record.task, record.item) for record in variants["student"]]
    assert len(asked) == 64
    assert all([(record.task, record.item) for record in records] == asked for records in variants.values())
    assert variants["merge"] != variants["student"]
    assert variants["without-ash"] != variants["without-elm"]


def test_results_and_report_say_what_changed(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    watched = results["domains"]["search"]["watch"]
    assert set(watched) == {"relay", "ledger"}
    for measures in watched.values():
        change = measures["score"]["change"]
        assert change["mean"] == pytest.approx(measures["score"]["merge"] - measures["score"]["student"], abs=1e-3)
        assert set(measures["tokens"]["caused_by"]) == {"ash", "elm"}
    page = (run / "report.html").read_text()
    assert "What else changed" in page
    assert "due to ash" in page


def test_what_a_merge_is_decides_its_watched_answers_whatever_it_is_called(
    small: dict[str, Any], tmp_path: Path
) -> None:
    configs = []
    for density in (0.2, 0.8):
        merge = {"methods": [{"name": "ties", "label": "mine", "options": {"density": density}}], "scales": [1.0]}
        raw = {**small, "watch": {**WATCH, "benchmarks": WATCH["benchmarks"][:1]}, "merge": merge}
        units = plan_for(configure_recipe(raw, origin="small"), tmp_path).units
        configs.append(next(unit.config for unit in units if unit.stage == "watch"))
    assert configs[0] != configs[1]
