"""The units that evaluate: every model on validation and on test items."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from prefdelta.evaluation.benchmarks import Split
from prefdelta.models import fingerprint
from prefdelta.pipeline import stages
from prefdelta.pipeline.fusion.world import World
from prefdelta.pipeline.identity import benchmark_externals
from prefdelta.pipeline.unit import Unit, Work, Workbench, stage_unit
from prefdelta.recipe import ModelRef
from prefdelta.store import Artifact


def of_student(world: World, split: Split, variant: str, adapter: str | None, seed: int) -> Unit:
    """The student, bare or with an adapter."""
    return _evaluation(world, split, f"{seed}/{variant}", None, adapter, seed)


def of_source(world: World, label: str, source: ModelRef) -> Unit:
    """A source, on the test items only, with the first seed's random numbers."""
    return _evaluation(world, "test", f"sources/{label}", source, None, world.recipe.seeds[0])


def _evaluation(world: World, split: Split, name: str, source: ModelRef | None, adapter: str | None, seed: int) -> Unit:
    recipe = world.recipe
    sampling = recipe.evaluation_sampling or recipe.sampling.model_copy(update={"n": 1})
    weights = world.weights() if source is None else {"source": partial(fingerprint, source)}
    count = sum(benchmark.validation if split == "validation" else benchmark.test for benchmark in recipe.benchmarks)

    def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
        model = world.student if source is None else source
        folder = inputs["adapter"].path if adapter else None
        stages.evaluate(work, bench, model, folder, 1.0, recipe.benchmarks, sampling, recipe.search, split, seed)

    return stage_unit(
        f"{split}/{name}",
        config={
            "model": source or recipe.student,
            "seed": seed,
            "benchmarks": recipe.benchmarks,
            "sampling": sampling,
            "search": recipe.search,
        },
        inputs={**({"adapter": adapter} if adapter else {}), **(world.base if source is None else {})},
        externals={**weights, **benchmark_externals(recipe.benchmarks), **world.corpus()},
        make=make,
        work=Work(samples=count, disk=count * 1024),
    )
