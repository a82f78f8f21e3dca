"""Comparing two runs item by item: differences with intervals, p-values, and what could have been detected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Record
from prefdelta.evaluation.comparison.runs import Run
from prefdelta.evaluation.comparison.verdict import verdict
from prefdelta.evaluation.results import BenchmarkComparison, ComparisonResults, Side
from prefdelta.evaluation.score_table import POINTS, ScoreTable, Seed
from prefdelta.evaluation.statistics import bootstrap_interval, holm, mcnemar_exact, minimum_detectable_effect


def compare(first: Run, second: Run) -> ComparisonResults:
    """Compare two runs, paired by (task, item).

    Every benchmark gets a difference (second minus first) with its 95 % interval and a p-value; the p-values are
    corrected for the number of benchmarks (Holm). With several benchmarks, their mean is compared as well, each
    benchmark weighing the same. Training seeds are averaged within items first; the interval covers their noise. A
    run of one seed is held against each seed of the other.

    Raises:
        PrefdeltaError: the runs did not answer the same items, or not in the same way (prompt or scorer differ).
    """
    if len(first.seeds) != len(second.seeds) and 1 not in (len(first.seeds), len(second.seeds)):
        raise PrefdeltaError(
            f"{first.name} has {len(first.seeds)} training seeds and {second.name} has {len(second.seeds)}; compare "
            "runs with the same seeds, or one seed of each."
        )
    names = (first.name, second.name if second.name != first.name else f"{second.name} (again)")
    records: dict[tuple[str, Seed], Sequence[Record]] = {}
    for name, run in zip(names, (first, second), strict=True):
        seeds: list[Seed] = [None] if len(run.seeds) == 1 else list(range(len(run.seeds)))
        records |= {(name, seed): rows for seed, rows in zip(seeds, run.seeds, strict=True)}
    table = ScoreTable.from_records(records)
    _check_same_protocol(table, *names)
    rows = [_compared(table, names, task) for task in table.tasks]
    adjusted = holm([row["p"] for row in rows])
    benchmarks = [BenchmarkComparison(**row, p_holm=p) for row, p in zip(rows, adjusted, strict=True)]
    overall = None
    if len(benchmarks) > 1:
        whole = _compared(table, names, None)
        overall = BenchmarkComparison(**whole, p_holm=whole["p"])
    sentence = verdict(first.name, second.name, benchmarks, overall)
    return ComparisonResults(
        first=first.name, second=second.name, benchmarks=benchmarks, overall=overall, verdict=sentence
    )


def _compared(table: ScoreTable, names: tuple[str, str], task: str | None) -> dict[str, Any]:
    first, second = names
    differences = table.differences(second, first, task)
    estimate = table.difference(second, first, task)
    items, groups = table.items(task), table.groups(task)
    mcnemar = task is not None and estimate.seeds == 1 and groups == items and _binary(table, task)
    if mcnemar:
        assert task is not None
        p = mcnemar_exact(table.scores[second][task][0] > 0, table.scores[first][task][0] > 0)
    else:
        p = table.p_value(second, first, task)
    return {
        "task": task,
        "items": items,
        "clusters": groups,
        "seeds": estimate.seeds,
        "first": _side(table, first, task),
        "second": _side(table, second, task),
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "bootstrap": bootstrap_interval(differences, clusters=table.labels(task), generator=np.random.default_rng(0)),
        "p": p,
        "test": "mcnemar" if mcnemar else "interval",
        "detectable": minimum_detectable_effect(estimate),
    }


def _binary(table: ScoreTable, task: str) -> bool:
    """Whether every score of a task is 0 or 1."""
    return all(np.isin(scores[task], (0, POINTS)).all() for scores in table.scores.values())


def _side(table: ScoreTable, model: str, task: str | None) -> Side:
    health = [asdict(table.health(model, name)) for name in (table.tasks if task is None else [task])]
    means = {key: float(np.mean([entry[key] for entry in health])) for key in health[0]}
    return Side(score=table.score(model, task), **means)


def _check_same_protocol(table: ScoreTable, first: str, second: str) -> None:
    for task in table.tasks:
        pairs = list(zip(table.records[first][task][0], table.records[second][task][0], strict=True))
        scorers = {(a.scorer, b.scorer) for a, b in pairs if a.scorer and b.scorer and a.scorer != b.scorer}
        if scorers:
            scored, otherwise = min(scorers)
            raise PrefdeltaError(
                f"{task!r} was scored by {scored!r} in {first} and by {otherwise!r} in {second}; score both alike."
            )
        asked = [a.item for a, b in pairs if a.prompt_hash and b.prompt_hash and a.prompt_hash != b.prompt_hash]
        if asked:
            raise PrefdeltaError(
                f"{first} and {second} were not asked the same way: the prompts of {len(asked)} of {len(pairs)} items "
                f"of {task!r} differ (for example {min(asked)!r}); use the same template, examples and system prompt."
            )
