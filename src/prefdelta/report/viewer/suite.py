"""What the viewer shows of a finished suite: every method on every item, the shares, the sweep of a preference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import load_file

from prefdelta.core.records import Record
from prefdelta.core.store import Store
from prefdelta.evaluation.results import Interval, SuiteResults
from prefdelta.recipe.suite import SuiteRecipe
from prefdelta.report.viewer.runs import made, read_recipe, run_view
from prefdelta.report.viewer.view import Cell, Chart, Curve, DomainView, ModelView, RunView, TableView

_BACKBONE, _OWN = "backbone", "own adapters"
_TEST, _BARE = "test.safetensors", "bare.safetensors"


def suite_view(root: Path, results: SuiteResults) -> RunView:
    """The folder of a finished suite.

    Raises:
        PrefdeltaError: a file of it is missing or damaged.
    """
    rows: list[Sequence[Cell]] = [
        [
            *(name, *_ends(method.mean)),
            *(method.tasks[task].mean for task in results.tasks),
            *(method.setting, method.validation),
        ]
        for name, method in results.methods.items()
    ]
    shares = TableView(
        "Share of the own adapter's accuracy, %",
        ["method", "mean", "low", "high", *results.tasks, "setting", "validation"],
        rows,
        interval=(1, 2, 3),
    )
    differences = TableView(
        "Differences of methods, points of that share",
        ["methods", "difference", "low", "high"],
        [[name, *_ends(difference)] for name, difference in results.differences.items()],
    )
    best = max(results.methods, key=lambda name: results.methods[name].mean.mean)
    mean = results.methods[best].mean
    return run_view(
        *(root, read_recipe(root, SuiteRecipe), results),
        description=f"{len(results.tasks)} tasks, one adapter each, {len(results.methods)} merge methods",
        sentences=[
            f"{best} keeps {mean.mean:.1f} % [{mean.low:.1f}, {mean.high:.1f}] of the own adapters' accuracy, the most "
            f"of {len(results.methods)} methods."
        ],
        domains=[_domain(Store(root, journal=False), results)],
        charts=_sweep(results),
        tables=[shares, differences],
    )


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


def _domain(store: Store, results: SuiteResults) -> DomainView:
    files = {_OWN: ("references/{}", _TEST), _BACKBONE: ("references/{}", _BARE)}
    files |= {name: (f"tests/{{}}/{name}", _TEST) for name in results.methods if name != _BACKBONE}
    accuracies = {_OWN: [results.single[task] for task in results.tasks]}
    accuracies |= {name: [row.accuracy[task].mean for task in results.tasks] for name, row in results.methods.items()}
    answers = [
        [_records(store, place.format(seed), file, results.tasks) for place, file in files.values()]
        for seed in results.seeds
    ]
    models = [
        ModelView(
            *(name, "reference" if name in (_OWN, _BACKBONE) else "method", name, None),
            *(sum(accuracies[name]) / len(results.tasks), accuracies[name]),
        )
        for name in files
    ]
    items = [(record.task, record.item) for record in answers[0][0]]
    best = max(range(2, len(models)), key=lambda place: models[place].score, default=1)
    choices = [best, *(place for place in range(1, len(models)) if place != best)]
    return DomainView(
        *(results.recipe, results.tasks, models, 0, None, choices, items, [None] * len(items)), answers=answers
    )


def _records(store: Store, artifact: str, file: str, tasks: Sequence[str]) -> list[Record]:
    """Whether each item's class was found, from tensors ``TASK.correct``."""
    outcomes = load_file(made(store, artifact).path / file)
    return [
        Record(task, f"{place}", float(right), "right" if right else "wrong", "", False, 0, scorer="class")
        for task in tasks
        for place, right in enumerate(outcomes[f"{task}.correct"].tolist())
    ]


def _sweep(results: SuiteResults) -> list[Chart]:
    sweep = results.preference
    if sweep is None:
        return []
    columns = [sweep.task, "the other tasks, mean"]
    rows = [[point.weight, point.task, point.others] for point in sweep.points]
    curve = Curve(sweep.method, "merge", None, rows)
    return [Chart("Preference", f"weight of {sweep.task}", columns, columns, [curve])]
