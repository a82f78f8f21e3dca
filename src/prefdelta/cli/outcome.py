"""The end of ``prefdelta run`` and ``demo`` in the terminal: the result in a short table, and the next commands."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prefdelta.evaluation.results import RESULTS, AggregationResults, FusionResults, SuiteResults, read_recipe_results
from prefdelta.recipe import BaseRecipe, Recipe
from prefdelta.report.choice import choice_sentences
from prefdelta.report.fusion import fusion_doubts
from prefdelta.report.headline import cautions, domain_doubts


def print_outcome(recipe: BaseRecipe, report: Path, console: Console, place: str) -> None:
    """Tell what a finished run of ``recipe`` came to.

    Args:
        recipe: what ran.
        report: on this machine; its results lie beside it.
        console: where to.
        place: the run folder, or the address of one.
    """
    results = read_recipe_results(report.with_name(RESULTS))
    for doubt in _doubts(results):
        console.print(f"Do not trust these numbers yet: {doubt}.", soft_wrap=True)
    console.print(_table(results))
    console.print(f"report: {place}/{report.name}\nresults: {place}/results.json", soft_wrap=True)
    if isinstance(results, AggregationResults) and isinstance(recipe, Recipe):
        for sentence in cautions(results):
            console.print(f"warning: {sentence}", style="yellow", soft_wrap=True)
        console.print("intervals: 95 %, in percentage points")
        for name, domain in results.domains.items():
            console.print(f"{name}: {' '.join(choice_sentences(domain))}", soft_wrap=True)
        for name, settings in recipe.domains.items():
            adapter = report.parent / name / "merged" / "adapter"
            words = ["prefdelta", "evaluate", recipe.student.path, "YOUR_ITEMS.jsonl", "--adapter", str(adapter)]
            if settings.search is not None:
                words += ["--corpus", settings.search.corpus, "--protocol", settings.search.protocol.name]
            console.print(f"\nmerged adapter of {name}: {adapter}", soft_wrap=True)
            console.print(f"next: {shlex.join([*words, '-o', 'OUT'])}", soft_wrap=True)
    console.print(f"check the files: prefdelta verify {shlex.quote(place)}", soft_wrap=True)


def _doubts(results: AggregationResults | FusionResults | SuiteResults) -> list[str]:
    if isinstance(results, AggregationResults):
        found = {name: domain_doubts(domain) for name, domain in results.domains.items()}
        return [f"in {name}, {doubt}" if len(found) > 1 else doubt for name in found for doubt in found[name]]
    return fusion_doubts(results) if isinstance(results, FusionResults) else []


def _table(results: AggregationResults | FusionResults | SuiteResults) -> Table:
    if isinstance(results, AggregationResults):
        return _aggregation(results)
    return _fusion(results) if isinstance(results, FusionResults) else _suite(results)


def _aggregation(results: AggregationResults) -> Table:
    table = Table("domain", "student", "best single", "merge", "merge − best single", "merge − student")
    for name, domain in results.domains.items():
        found = domain.summary
        table.add_row(
            name,
            f"{found.student:.1f}",
            f"{found.best_single.score:.1f} {found.best_single.name}{_scale(found.best_single.scale)}",
            f"{found.best_merge.score:.1f} {found.best_merge.name}{_scale(found.best_merge.scale)}",
            found.gain_over_best_single.text,
            found.gain_over_student.text,
        )
    return table


def _scale(scale: float | None) -> str:
    return "" if scale is None else f" (λ = {scale:g})"


def _fusion(results: FusionResults) -> Table:
    score = results.methods[results.main].test.average.score
    table = Table("model", "score", f"{results.main} − model", title=f"{results.main}: {score:.1f}")
    for entry in results.comparisons:
        table.add_row(entry.other, f"{results.methods[entry.other].test.average.score:.1f}", entry.text)
    return table


def _suite(results: SuiteResults) -> Table:
    table = Table("method", "mean, % of the own adapters' accuracy", "95 % interval")
    for name, method in sorted(results.methods.items(), key=lambda pair: -pair[1].mean.mean):
        table.add_row(name, f"{method.mean.mean:.1f}", f"{method.mean.low:.1f} to {method.mean.high:.1f}")
    return table
