"""What a finished run says in the terminal, for each kind of recipe."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from prefdelta.cli.outcome import print_outcome
from prefdelta.core.files import write_json
from prefdelta.evaluation.results import FusionResults, SuiteResults
from prefdelta.evaluation.results.parts import Results
from prefdelta.recipe import BaseRecipe

INTERVAL = {"mean": 4.0, "low": 1.2, "high": 6.8, "seed_noise": True, "detectable": 4.0}


def told(results: Results, folder: Path) -> list[str]:
    write_json(folder / "results.json", results.to_json())
    console = Console(file=io.StringIO(), width=160, markup=False, record=True)
    print_outcome(BaseRecipe.model_construct(), folder / "report.html", console, str(folder))
    return console.export_text().splitlines()


def test_a_fusion_tells_the_difference_to_each_other_model(tmp_path: Path) -> None:
    def method(kind: str, score: float) -> dict[str, object]:
        average = {"score": score, "versus": {}, "seeds": {}}
        cut = {"score": score, "n": 50, "unparsed": 96, "truncated": 96 if kind == "main" else 0, "tokens": 24}
        test = {"average": average, "tasks": {"t": {"versus": {}, **cut}}}
        return {"kind": kind, "begins_at": None, "objective": None, "options": {}, "test": test}

    results = FusionResults.model_validate(
        {
            "recipe": "r",
            "seeds": [0],
            "main": "wrpo",
            "control": "dpo",
            "tasks": ["t"],
            "comparisons": [{**INTERVAL, "with": "dpo", "p": 0.01, "p_holm": 0.02}],
            "methods": {"wrpo": method("main", 54.3), "dpo": method("control", 50.3)},
            "data": {},
        }
    )
    lines = told(results, tmp_path)
    assert lines[0] == (
        "Do not trust these numbers yet: 96 % of the answers of wrpo to t were cut off: raise max_new_tokens."
    )
    assert lines[1].strip() == "wrpo: 54.3"
    (row,) = [line for line in lines if line.startswith("│ dpo ")]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["dpo", "50.3", "+4.0 [+1.2, +6.8]"]
    assert lines[-1] == f"check the files: prefdelta verify {tmp_path}"


def test_a_suite_lists_its_methods_from_the_best_down(tmp_path: Path) -> None:
    def method(mean: float) -> dict[str, object]:
        return {"mean": {**INTERVAL, "mean": mean}, "tasks": {}, "accuracy": {}}

    results = SuiteResults.model_validate(
        {
            "recipe": "r",
            "seeds": [0],
            "tasks": ["t"],
            "unseen_tasks": [],
            "budget": 4,
            "single": {"t": 80.0},
            "test_items": {"t": 10},
            "classes": {"t": 2},
            "methods": {"average": method(61.0), "ties": method(64.5)},
            "differences": {},
        }
    )
    rows = [line for line in told(results, tmp_path) if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["ties", "average"]
    assert "64.5" in rows[0]
