"""What the viewer shows of a finished fusion: every model's answers, and the main method against the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefdelta.core.records import RECORDS, Record, read_rows
from prefdelta.core.store import Store
from prefdelta.evaluation.results import FusionResults, Interval
from prefdelta.evaluation.results.fusion import SOURCE
from prefdelta.recipe.fusion import FusionRecipe
from prefdelta.report.viewer.aggregation import aligned
from prefdelta.report.viewer.questions import questions
from prefdelta.report.viewer.runs import made, read_recipe, run_view
from prefdelta.report.viewer.view import Against, Cell, DomainView, ModelView, RunView, TableView


def fusion_view(root: Path, results: FusionResults) -> RunView:
    """The folder of a finished fusion.

    Raises:
        PrefdeltaError: a file of it is missing or damaged.
    """
    recipe = read_recipe(root, FusionRecipe)
    notes: list[str] = []
    rows: list[Sequence[Cell]] = [
        [f"{results.main} − {row.other}", row.mean, row.low, row.high, f"{row.p_holm:.3g}"]
        for row in results.comparisons
    ]
    main = results.methods[results.main].test.average
    return run_view(
        *(root, recipe, results),
        sentences=[
            f"{results.main} scores {main.score:.1f} %, {interval.text} points against {other}."
            for other, interval in main.versus.items()
        ],
        notes=notes,
        domains=[_domain(Store(root, journal=False), results, recipe, notes)],
        tables=[
            TableView(
                "Differences in points, p corrected for their number (Holm)",
                *(["models", "difference", "low", "high", "p"], rows),
                interval=(1, 2, 3),
            )
        ],
    )


def _domain(store: Store, results: FusionResults, recipe: FusionRecipe, notes: list[str]) -> DomainView:
    names = sorted(results.methods, key=lambda name: results.methods[name].kind != "student")
    answers = [[_test(store, name, seed) for name in names] for seed in results.seeds]
    known = answers[0][0]
    items = [(record.task, record.item) for record in known]
    main = names.index(results.main)
    trained = ("stage", "comparison", "control")
    models = [_model(name, results) for name in names]
    return DomainView(
        name=results.recipe,
        tasks=results.tasks,
        models=models,
        base=0,
        rival=names.index(results.control),
        choices=[main, *(place for place, model in enumerate(models) if model.kind in trained)],
        items=items,
        questions=questions(recipe.benchmarks, recipe.search, known, "", notes),
        answers=[aligned(of_seed, items, results.recipe, names) for of_seed in answers],
    )


def _model(name: str, results: FusionResults) -> ModelView:
    method = results.methods[name]
    tasks = [method.test.tasks[task] for task in results.tasks]
    count = sum(task.n for task in tasks)
    parts = [(method.test.average.versus, count), *((task.versus, task.n) for task in tasks)]
    student = next(other for other, row in results.methods.items() if row.kind == "student")
    return ModelView(
        name=name,
        kind=method.kind,
        source=name,
        scale=None,
        score=method.test.average.score,
        scores=[task.score for task in tasks],
        minor=method.kind == "source",
        to_base=[_against(versus, student, n) for versus, n in parts],
        to_rival=[_against(versus, results.control, n) for versus, n in parts],
    )


def _against(versus: Mapping[str, Interval], other: str, n: int) -> Against:
    return Against(versus[other].text if other in versus else None, n)


def _test(store: Store, name: str, seed: int) -> list[Record]:
    label = f"sources/{name.removeprefix(SOURCE)}" if name.startswith(SOURCE) else f"{seed}/{name}"
    return read_rows(made(store, f"test/{label}").path / RECORDS, Record)
