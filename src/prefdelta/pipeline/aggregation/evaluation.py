"""The units that evaluate: validation, what it chooses, tests, and the watched tasks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefdelta.models import fingerprint
from prefdelta.pipeline.aggregation import stages, watching
from prefdelta.pipeline.aggregation.world import World
from prefdelta.pipeline.identity import benchmark_externals
from prefdelta.pipeline.unit import Externals, Make, Unit, Work
from prefdelta.recipe import ModelRef
from prefdelta.recipe.watching import Watch
from prefdelta.store import Artifact


def validation(world: World, seed: int, variant: str, adapter: str) -> Unit:
    """A variant at every scale λ on the validation items; its adapter is, or lies in, the artifact ``adapter``."""
    scales = world.recipe.merge.scales
    count = sum(benchmark.validation for benchmark in world.domain.benchmarks)
    return _evaluation(
        world,
        f"validation/{seed}/{variant}",
        config={"split": "validation", "scales": scales, "seed": seed},
        inputs={"adapter": world.path(adapter)},
        make=lambda work, inputs, bench: stages.validate(
            work, _adapter(inputs), bench, world.student, world.domain, scales, seed
        ),
        samples=count * len(scales),
    )


def selection(world: World) -> Unit:
    """What validation says of all variants, of which the best merge, single, baseline and control are chosen."""
    merged_controls = [world.control_variants(control)[-1] for control in world.recipe.controls]
    groups: dict[str, list[str]] = {
        "merges": world.methods,
        "singles": world.deltas,
        "baselines": list(world.recipe.baselines),
        "controls": merged_controls,
    }
    variants = {
        seed: [
            *world.deltas,
            *world.methods,
            *world.recipe.baselines,
            *(merged_controls if world.controls(seed) else []),
        ]
        for seed in world.recipe.seeds
    }
    return world.unit(
        "selection",
        config={"groups": groups},
        inputs={
            f"{seed}/{variant}": world.path(f"validation/{seed}/{variant}")
            for seed, names in variants.items()
            for variant in names
        },
        make=lambda work, inputs, bench: stages.select(work, inputs, groups),
    )


def test(world: World, seed: int, variant: str, adapter: str | None, *, tuned: bool) -> Unit:
    """A variant, or the bare student, on the test items: at λ = 1 and, if ``tuned``, at the λ that validation chose."""
    inputs = {"adapter": world.path(adapter)} if adapter else {}
    selection = {"selection": world.path("selection")} if tuned else {}
    scales = 2 if tuned else 1
    return _evaluation(
        world,
        f"test/{seed}/{variant}",
        config={"split": "test", "variant": variant, "tuned": tuned, "seed": seed},
        inputs={**inputs, **selection},
        make=lambda work, inputs, bench: stages.test(
            work,
            _adapter(inputs) if adapter else None,
            bench,
            world.student,
            world.domain,
            stages.tuned_scales(inputs["selection"], variant) if tuned else [1.0],
            seed,
        ),
        samples=scales * sum(benchmark.test for benchmark in world.domain.benchmarks),
    )


def weak_test(world: World, label: str, source: ModelRef) -> Unit:
    """A model that wrote answers, on the test items."""
    return _evaluation(
        world,
        f"test/weak/{label}",
        config={"split": "test", "model": source},
        inputs={},
        externals={"weights": partial(fingerprint, source)},
        make=lambda work, inputs, bench: stages.test(work, None, bench, source, world.domain, [1.0], 0),
        samples=sum(benchmark.test for benchmark in world.domain.benchmarks),
    )


def watch(world: World, seed: int, settings: Watch) -> Unit:
    """The watched tasks, answered by the student, by the chosen merge, and by it without each of its deltas."""
    adapters = {delta: world.path(f"adapters/{seed}/{delta}") for delta in world.deltas}
    judged = {f"validation of {delta}": world.path(f"validation/{seed}/{delta}") for delta in world.deltas}
    variants = 2 + (len(world.deltas) if len(world.deltas) > 1 else 0)
    samples = variants * sum(benchmark.test for benchmark in settings.benchmarks)
    return world.unit(
        f"watch/{seed}",
        config={"watch": settings, "deltas": world.deltas, "seed": seed},
        inputs={**adapters, **judged, "selection": world.path("selection"), **world.base},
        externals={**world.weights(), **benchmark_externals(settings.benchmarks)},
        make=lambda work, inputs, bench: watching.watch(
            work, inputs, bench, world.student, settings, world.deltas, seed
        ),
        work=Work(samples=samples, disk=samples * 1024),
    )


def _evaluation(
    world: World,
    name: str,
    *,
    config: dict[str, Any],
    inputs: dict[str, str],
    make: Make,
    samples: int,
    externals: Externals | None = None,
) -> Unit:
    domain = world.domain
    files = benchmark_externals(domain.benchmarks)
    own = world.weights() if externals is None else externals
    return world.unit(
        name,
        config={
            **config,
            "benchmarks": domain.benchmarks,
            "sampling": domain.evaluation_sampling or domain.sampling,
            "search": domain.search,
        },
        inputs={**inputs, **(world.base if externals is None else {})},
        externals={**own, **files, **world.corpus()},
        make=make,
        work=Work(samples=samples, disk=samples * 1024),
    )


def _adapter(inputs: Mapping[str, Artifact]) -> Path:
    """The adapter folder in an artifact: a merge keeps it in a folder of its own, a training is one."""
    folder = inputs["adapter"].path
    return folder / "adapter" if (folder / "adapter").is_dir() else folder
