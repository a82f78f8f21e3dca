"""Benchmarks with too few test items for an interval, told before anything is made instead of with the results."""

from __future__ import annotations

from collections.abc import Iterator

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.records import digest
from prefdelta.evaluation.benchmarks import benchmark_items, benchmark_pairs
from prefdelta.experiments.feasible import LEAST_TESTED
from prefdelta.experiments.room import is_here
from prefdelta.recipe import BaseRecipe, Benchmark, Recipe
from prefdelta.recipe.fusion import FusionRecipe


def check_tests(recipe: BaseRecipe) -> None:
    """Refuse benchmarks whose files on this machine leave fewer than two test items.

    Raises:
        PrefdeltaError: there is one, or its questions cannot be read; the message begins with the key's dotted path.
    """
    for where, benchmark in _benchmarks(recipe):
        left = _left(benchmark)
        if left is not None and left < LEAST_TESTED:
            raise PrefdeltaError(
                f"{where}: {benchmark.questions.source} leaves {left} item (or prompt of pairs) to test on, and an "
                f"interval needs {LEAST_TESTED}; lower validation, or give more questions."
            )


def _benchmarks(recipe: BaseRecipe) -> Iterator[tuple[str, Benchmark]]:
    if isinstance(recipe, FusionRecipe):
        yield from ((f"benchmarks.{place}", benchmark) for place, benchmark in enumerate(recipe.benchmarks))
    if isinstance(recipe, Recipe):
        for name, domain in recipe.domains.items():
            for place, benchmark in enumerate(domain.benchmarks):
                yield f"domains.{name}.benchmarks.{place}", benchmark


def _left(benchmark: Benchmark) -> int | None:
    """How many test items, or prompts of pairs, there are; ``None`` if files here do not tell."""
    if benchmark.pairs is not None:
        if benchmark.pairs.path is None:
            return None
        # Pairs on one prompt stand and fall together.
        return len({digest(pair.prompt) for pair in benchmark_pairs(benchmark, "test", expanded(benchmark.pairs.path))})
    if benchmark.lm_eval is not None or benchmark.benchmark is not None or not is_here(benchmark.questions):
        return None
    return len(benchmark_items(benchmark.model_copy(update={"test": LEAST_TESTED}), "test"))
