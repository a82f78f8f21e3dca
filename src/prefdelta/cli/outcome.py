"""The end of ``prefdelta run`` and ``demo`` in the terminal: the result in a short table, and the next commands."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prefdelta.evaluation.results import RESULTS, AggregationResults, FusionResults, SuiteResults, read_recipe_results
from prefdelta.recipe import BaseRecipe, Recipe, Search
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
    doubts, table = _told(results)
    for doubt in doubts:
        console.print(f"Do not trust these numbers yet: {doubt}.")
    console.print(table)
    console.print(f"report: {place}/{report.name}\nresults: {place}/results.json")
    if isinstance(results, AggregationResults) and isinstance(recipe, Recipe):
        for sentence in cautions(results):
            console.print(f"warning: {sentence}", style="yellow")
        console.print("intervals: 95 %, in percentage points")
        for name, domain in results.domains.items():
            console.print(f"{name}: {' '.join(choice_sentences(domain))}")
        for name, settings in recipe.domains.items():
            adapter = report.parent / name / "merged" / "adapter"
            words = ["prefdelta", "evaluate", recipe.student.path, "YOUR_ITEMS.jsonl", "--adapter", str(adapter)]
            if settings.search is not None:
                words += search_words(settings.search)
            console.print(f"\nmerged adapter of {name}: {adapter}")
            console.print(f"next: {shlex.join([*words, '-o', 'OUT'])}")
    console.print(f"check the files: prefdelta verify {shlex.quote(place)}")


def search_words(search: Search) -> list[str]:
    """The options of ``prefdelta evaluate`` with which a model searches as in a recipe."""
    words = ["--corpus", search.corpus, "--protocol", search.protocol.name]
    given = search.model_dump(exclude_unset=True, exclude={"corpus", "protocol", "retriever"})
    words += [word for key, value in given.items() for word in ("--set", f"search.{key}={value}")]
    return [*words, "--retriever", search.retriever.name] if search.retriever else words


def _told(results: AggregationResults | FusionResults | SuiteResults) -> tuple[list[str], Table]:
    """What speaks against the numbers, and the numbers."""
    match results:
        case AggregationResults():
            found = {name: domain_doubts(domain) for name, domain in results.domains.items()}
            doubts = [f"in {name}, {doubt}" if len(found) > 1 else doubt for name in found for doubt in found[name]]
            return doubts, _aggregation(results)
        case FusionResults():
            return fusion_doubts(results), _fusion(results)
        case SuiteResults():
            return [], _suite(results)


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
