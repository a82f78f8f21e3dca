"""A domain whose pairs are made by scores: several answers to each question, scored, filtered, with a data card."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from prefdelta.core.progress import Display
from prefdelta.core.records import Pair, Sample, Score, read_rows
from prefdelta.core.store import Store
from prefdelta.experiments.aggregation.domain import domain_units
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.execution.in_process import InProcess
from prefdelta.experiments.execution.scheduler import execute
from prefdelta.experiments.student import Student
from prefdelta.experiments.unit import RunContext
from prefdelta.recipe import Recipe
from prefdelta.report.viewer.pairs import read_pairs


def test_answers_are_scored_and_paired(small: dict[str, Any], tmp_path: Path) -> None:
    domain = {
        **small["domains"]["search"],
        "prompts": {"source": "micro:search", "count": 40},
        "sampling": {"n": 3, "temperature": 1.0, "max_new_tokens": 24, "batch_size": 64},
        "scoring": {"scorer": "exact-match"},
        "pairing": {"rule": "same-source"},
        "filters": {
            **{"format": "finished", "identical_within": 256, "decontaminate": 50, "duplicates": "exact"},
            "max_length_ratio": 1.2,
        },
    }
    recipe = Recipe(**{**small, "domains": {"search": domain}})
    domain = DomainContext("search", recipe.domains["search"], recipe, Student(recipe.student, tmp_path))
    units = [unit for unit in domain_units(domain) if unit.stage in ("prompts", "responses", "scores", "pairs")]
    assert [unit.name for unit in units if unit.stage == "scores"] == [
        f"search/scores/{name}" for name in ("ash-weak", "ash-weaker", "elm-weak", "elm-weaker")
    ]
    assert sum(unit.work.samples for unit in units) == sum(unit.work.scores for unit in units) == 4 * 40 * 3
    store = Store(tmp_path)
    made = execute(units, store, InProcess(store, RunContext()), Display(None))
    for delta in ("ash", "elm"):
        folder = made[f"search/pairs/{delta}"].path
        pairs = read_rows(folder / "pairs.jsonl", Pair)
        scores, writers = {}, {}
        for side in ("weak", "weaker"):
            answers = read_rows(made[f"search/responses/{delta}-{side}"].path / "responses.jsonl", Sample)
            rows = read_rows(made[f"search/scores/{delta}-{side}"].path / "scores.jsonl", Score)
            assert [(row.item, row.index) for row in rows] == [(answer.item, answer.index) for answer in answers]
            scores |= {(side, row.item, row.index): row.score for row in rows}
            for answer in answers:
                writers.setdefault(answer, set()).add(side)
        for pair in pairs:
            (side, *_) = sorted(writers[pair.chosen] & writers[pair.rejected])
            assert scores[side, pair.id, pair.chosen.index] == 1
            assert scores[side, pair.id, pair.rejected.index] == 0
            assert pair.chosen.finish == "stop"
        counts = json.loads((folder / "counts.json").read_text())
        assert counts["items"] == 40 == counts["pairs"] + sum(counts["dropped"].values())
        assert {"tied", "format", "identical_within", "contaminated: lookup"} <= set(counts["dropped"])
        gone = Counter(fate for fate, _ in read_pairs(folder))
        filtered = ("format", "identical_within", "length_ratio", "duplicate", "contaminated: lookup")
        assert gone == Counter({name: counts["dropped"][name] for name in filtered}) + Counter(
            {"trained on": counts["pairs"]}
        )
        assert gone["length_ratio"] > 0
        assert "highest score and `rejected` its lowest" in (folder / "README.md").read_text()
