"""What the viewer shows of a finished aggregation, read from its results, its records and its recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import RECORDS, Record, read_rows
from prefdelta.core.store import Store
from prefdelta.evaluation.results import AggregationResults, Compared, Domain, DomainSelection, ScaleGrid
from prefdelta.recipe import Recipe
from prefdelta.report.choice import choice_sentences
from prefdelta.report.headline import headlines
from prefdelta.report.viewer.pairs import collect_pairs
from prefdelta.report.viewer.questions import questions
from prefdelta.report.viewer.runs import made, read_recipe, run_view
from prefdelta.report.viewer.view import Against, Chart, Curve, DomainView, ModelView, RunView, SeedAnswers

_ORDER = ("student", "weak", "single", "baseline", "merge", "control")
_MAJOR = ("student", "single", "merge")
_SIGNALS = {"agreement": "information", "pairs": "minus the mean loss of pairs"}


def aggregation_view(root: Path, results: AggregationResults) -> RunView:
    """A finished run of an aggregation.

    Raises:
        PrefdeltaError: a file of it is missing or damaged.
    """
    recipe = read_recipe(root, Recipe)
    notes: list[str] = []
    store = Store(root, journal=False)
    domains = [_domain(store, name, domain, recipe, results.seeds, notes) for name, domain in results.domains.items()]
    return run_view(
        *(root, recipe, results),
        sentences=headlines(results),
        notes=notes,
        domains=domains,
        charts=[_chart(store, name, domain, results.seeds) for name, domain in results.domains.items()],
        pairs=collect_pairs(store, recipe, domains),
    )


def _domain(
    store: Store, name: str, results: Domain, recipe: Recipe, seeds: Sequence[int], notes: list[str]
) -> DomainView:
    names = sorted(results.methods, key=lambda model: _ORDER.index(results.methods[model].kind))
    models = [domain_model(name, results) for name in names]
    answers = [[_test(store, name, results, model, seed) for model in names] for seed in seeds]
    known = next(rows for of_seed in answers for rows in of_seed if rows is not None)
    items = [(record.task, record.item) for record in known]
    settings, summary = recipe.domains[name], results.summary
    best = names.index(summary.best_merge.variant)
    return DomainView(
        name=name,
        tasks=results.tasks,
        models=models,
        base=next(place for place, model in enumerate(models) if model.kind == "student"),
        rival=names.index(summary.best_single.variant),
        choices=[best, *(place for place, model in enumerate(models) if model.kind == "merge" and place != best)],
        items=items,
        questions=questions(settings.benchmarks, settings.search, known, f"{name}/", notes),
        answers=[aligned(of_seed, items, name, names) for of_seed in answers],
    )


def domain_model(name: str, results: Domain) -> ModelView:
    """A model of a domain, with its differences to the student and to the best single delta."""
    method = results.methods[name]
    parts: list[Compared] = [method.average, *(method.tasks[task] for task in results.tasks)]
    return ModelView(
        name=name,
        kind=method.kind,
        source=method.source,
        scale=method.scale,
        score=method.average.score,
        scores=[method.tasks[task].score for task in results.tasks],
        minor=method.kind not in _MAJOR,
        to_base=[Against(part.vs_student.text if part.vs_student else None, part.n) for part in parts],
        to_rival=[Against(part.vs_best_single.text if part.vs_best_single else None, part.n) for part in parts],
        changed=[part.changed for part in parts],
    )


def _test(store: Store, domain: str, results: Domain, model: str, seed: int) -> list[Record] | None:
    variant = results.methods[model]
    group = "weak" if variant.kind == "weak" else str(seed)
    name = f"{domain}/test/{group}/{variant.source}"
    # A recipe may limit controls to some of the seeds.
    artifact = store.get(name) if variant.kind == "control" else made(store, name)
    if artifact is None:
        return None
    return read_rows(artifact.path / f"scale-{_number(variant.scale)}" / RECORDS, Record)


def _number(scale: float | None) -> str:
    """A scale as folders are named; a model without an adapter is tested under scale 1."""
    return f"{1.0 if scale is None else scale:g}"


def aligned(
    answers: SeedAnswers, items: Sequence[tuple[str, str]], domain: str, models: Sequence[str]
) -> list[list[Record] | None]:
    """The records of each model in the order of ``items``.

    Raises:
        PrefdeltaError: a model answered other items.
    """
    found: list[list[Record] | None] = []
    for model, rows in zip(models, answers, strict=True):
        by_item = {(row.task, row.item): row for row in rows or ()}
        if rows is not None and (len(by_item) != len(rows) or by_item.keys() != set(items)):
            raise PrefdeltaError(
                f"domain {domain!r}: {model!r} did not answer the same items as the others; run it again."
            )
        found.append(None if rows is None else [by_item[item] for item in items])
    return found


def _chart(store: Store, domain: str, results: Domain, seeds: Sequence[int]) -> Chart:
    """Validation scores over λ, whatever chose; below them what chose, if it was not the scores."""
    selection = results.selection
    signal = selection if selection.labelled else None
    shown = (
        selection.labelled.model_copy(update={"best_scale": selection.best_scale}) if selection.labelled else selection
    )
    curves = _curves(store, domain, "merge", shown, signal, seeds)
    curves += _curves(store, domain, "single", selection.singles, None, seeds) if selection.singles else []
    columns = ["score %", "unparsed %", "cut off %", "tokens"]
    named = [_SIGNALS[selection.by]] if signal else []
    kept = [
        replace(curve, rows=[row[: 5 + len(named)] for row in curve.rows], level=_level(selection, curve))
        for curve in curves
    ]
    notes = choice_sentences(results)
    return Chart(domain, "scale λ", columns + named, ["score %", *named], kept, logarithmic=True, notes=notes)


def _level(selection: DomainSelection, curve: Curve) -> tuple[float, float] | None:
    """The λ that what chose cannot tell from the chosen one, where there are others."""
    grid = selection if curve.kind == "merge" else selection.singles
    low, high = grid.ranges.get(curve.name, (0.0, 0.0)) if grid else (0.0, 0.0)
    return (low, high) if low < high else None


def _curves(
    store: Store, domain: str, kind: str, grid: ScaleGrid, signal: ScaleGrid | None, seeds: Sequence[int]
) -> list[Curve]:
    found = []
    for name, scores in grid.scores.items():
        points, validated = [], store.get(f"{domain}/validation/{name}")
        for scale, score in sorted(scores.items(), key=lambda entry: float(entry[0])):
            rows: list[Record] = []
            if validated:
                for seed in seeds:
                    for file in sorted((validated.path / str(seed) / f"scale-{scale}").glob(f"draw-*/{RECORDS}")):
                        rows += read_rows(file, Record)
            points.append(
                [
                    float(scale),
                    score,
                    100 * _mean(rows, lambda row: row.unparsed),
                    100 * _mean(rows, lambda row: row.truncated),
                    _mean(rows, lambda row: row.tokens),
                    signal.scores.get(name, {}).get(scale) if signal else None,
                ]
            )
        found.append(Curve(name, kind, grid.best_scale[name], points))
    return found


def _mean(rows: Sequence[Record], value: Callable[[Record], Any]) -> float:
    return sum(map(value, rows)) / len(rows) if rows else 0.0
