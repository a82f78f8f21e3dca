"""The order of a domain's units: every unit comes after its inputs."""

from __future__ import annotations

from collections.abc import Iterator

from prefdelta.pipeline.aggregation import data, evaluation, learning
from prefdelta.pipeline.aggregation.world import CONTROL_MERGE, World
from prefdelta.pipeline.student import STUDENT
from prefdelta.pipeline.unit import Unit
from prefdelta.recipe import ModelRef


def domain_units(world: World) -> Iterator[Unit]:
    """All units of the domain, in order."""
    yield data.prompts(world)
    for label, source in world.sources.items():
        yield data.responses(world, label, source)
    if world.domain.pairing.needs_scores and world.domain.scoring is not None:
        for label in world.sources:
            yield data.scores(world, label, world.domain.scoring)
    for delta in world.deltas:
        yield data.pairs(world, delta)
    for seed in world.recipe.seeds:
        for delta in world.deltas:
            yield learning.adapter(world, seed, delta, None)
            yield evaluation.validation(world, seed, delta, f"adapters/{seed}/{delta}")
        for method in world.methods:
            yield learning.merge(world, seed, method, method, world.deltas)
            yield evaluation.validation(world, seed, method, f"merges/{seed}/{method}")
        for baseline in world.recipe.baselines:
            yield from learning.baseline(world, seed, baseline)
            yield evaluation.validation(world, seed, baseline, learning.baseline_path(world, seed, baseline))
        for control in world.controls(seed):
            for delta in world.deltas:
                yield learning.adapter(world, seed, delta, control)
            *singles, merged = world.control_variants(control)
            yield learning.merge(world, seed, merged, CONTROL_MERGE, singles)
            yield evaluation.validation(world, seed, merged, f"merges/{seed}/{merged}")
    yield evaluation.selection(world)
    if world.recipe.evaluate_weak:
        for label, source in world.sources.items():
            if isinstance(source, ModelRef):
                yield evaluation.weak_test(world, label, source)
    for seed in world.recipe.seeds:
        yield evaluation.test(world, seed, STUDENT, None, tuned=False)
        for delta in world.deltas:
            yield evaluation.test(world, seed, delta, f"adapters/{seed}/{delta}", tuned=True)
        for method in world.methods:
            yield evaluation.test(world, seed, method, f"merges/{seed}/{method}", tuned=True)
        for baseline in world.recipe.baselines:
            yield evaluation.test(world, seed, baseline, learning.baseline_path(world, seed, baseline), tuned=True)
        for control in world.controls(seed):
            *singles, merged = world.control_variants(control)
            for single in singles:
                yield evaluation.test(world, seed, single, f"adapters/{seed}/{single}", tuned=False)
            yield evaluation.test(world, seed, merged, f"merges/{seed}/{merged}", tuned=True)
        if world.recipe.watch is not None:
            yield evaluation.watch(world, seed, world.recipe.watch)
    yield learning.geometry(world)
