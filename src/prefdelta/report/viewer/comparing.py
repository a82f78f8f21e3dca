"""What the viewer shows of two runs on the same items: the verdict, the intervals, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prefdelta.core.invocation import told
from prefdelta.core.manifests import read_manifest
from prefdelta.core.records import Item, Record
from prefdelta.evaluation.comparison import compare, read_runs
from prefdelta.evaluation.comparison.verdict import p_text
from prefdelta.evaluation.results import (
    RESULTS,
    AggregationResults,
    BenchmarkComparison,
    ComparisonResults,
    EvaluationResults,
    signed,
)
from prefdelta.recipe import Recipe
from prefdelta.report.results import read_results
from prefdelta.report.viewer.aggregation import aligned
from prefdelta.report.viewer.commands import command_line
from prefdelta.report.viewer.questions import questions
from prefdelta.report.viewer.runs import read_recipe
from prefdelta.report.viewer.single import evaluated
from prefdelta.report.viewer.view import Against, Cell, DomainView, ModelView, RunView, TableView

_COLUMNS = ("benchmark", "B − A", "low", "high", "items", "A %", "B %", "p", "detectable")


def two_runs_view(first: Path, second: Path) -> RunView:
    """Two runs, evaluations or judged comparisons, held against each other as ``prefdelta compare`` does.

    Raises:
        PrefdeltaError: they cannot be compared.
    """
    runs = read_runs(first, second)
    results = compare(*runs)
    results = results.model_copy(update={"command": list(told(["compare", str(first), str(second)]))})
    notes: list[str] = []
    known = runs[0].seeds[0]
    asked = next(filter(any, (_questions(path, known, notes) for path in (first, second))), [None] * len(known))
    names = [results.first, results.second if results.second != results.first else f"{results.second} (again)"]
    whole = results.overall or results.benchmarks[0]
    parts = [whole, *results.benchmarks]
    items = [(record.task, record.item) for record in known]
    count = max(len(run.seeds) for run in runs)
    per_seed = [[run.seeds[seed if len(run.seeds) > 1 else 0] for run in runs] for seed in range(count)]
    models = [
        ModelView(names[0], "run", names[0], None, whole.first.score, [row.first.score for row in results.benchmarks]),
        ModelView(
            *(names[1], "run", names[1], None, whole.second.score),
            [row.second.score for row in results.benchmarks],
            to_base=[Against(_interval(row), row.items) for row in parts],
        ),
    ]
    domain = DomainView(
        name=f"{names[0]} and {names[1]}",
        tasks=[row.task or "" for row in results.benchmarks],
        models=models,
        base=0,
        rival=None,
        choices=[1],
        items=items,
        questions=asked,
        answers=[aligned(of_seed, items, "comparison", names) for of_seed in per_seed],
    )
    view = comparison_view(results, first)
    return replace(view, seeds=list(range(count)), notes=notes, domains=[domain], reads=[first, second])


def comparison_view(results: ComparisonResults, path: Path) -> RunView:
    """The numbers of a comparison by themselves, as ``prefdelta compare --json`` writes them."""
    rows: list[Sequence[Cell]] = [
        [
            *(row.task or "mean", row.difference, row.low, row.high, row.items, row.first.score, row.second.score),
            *(p_text(row.p_holm) + ("*" if row.test == "mcnemar" else ""), row.detectable),
        ]
        for row in [*results.benchmarks, *([results.overall] if results.overall else [])]
    ]
    told = (
        "A and B in percent, differences with their 95 % intervals in points, paired by item; p is corrected for the "
        "number of benchmarks (Holm), * exact McNemar test; detectable: the smallest true difference that would be "
        "found four times in five."
    )
    return RunView(
        name=f"{results.first} and {results.second}",
        description=f"A: {results.first}, B: {results.second}. {told}",
        results=results,
        sentences=[results.verdict],
        seeds=[0],
        command=command_line(results.command) if results.command else "",
        tables=[TableView("B against A", _COLUMNS, rows, interval=(1, 2, 3))],
        reads=[path],
    )


def _interval(row: BenchmarkComparison) -> str:
    return f"{signed(row.difference)} [{signed(row.low)}, {signed(row.high)}]"


def _questions(path: Path, records: Sequence[Record], notes: list[str]) -> list[Item | None]:
    """The questions of a run's records, where the run says what was asked."""
    nothing: list[Item | None] = [None] * len(records)
    if not (path / RESULTS).is_file():
        return nothing
    results = read_results(path / RESULTS)
    if isinstance(results, EvaluationResults):
        return evaluated((read_manifest(path) or {}).get("config", {}), records, notes)
    if not isinstance(results, AggregationResults):
        return nothing
    recipe = read_recipe(path, Recipe)
    found = dict(zip(((row.task, row.item) for row in records), nothing, strict=True))
    for name, settings in recipe.domains.items():
        own = [row for row in records if row.task.startswith(f"{name}/")]
        plain = [replace(row, task=row.task.removeprefix(f"{name}/")) for row in own]
        asked = questions(settings.benchmarks, settings.search, plain, f"{name}/", notes)
        found |= {(row.task, row.item): item for row, item in zip(own, asked, strict=True)}
    return list(found.values())
