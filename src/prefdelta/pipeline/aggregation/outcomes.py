"""From the test artifacts of a run to what the results are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefdelta.evaluation.results import DomainOutcome, Kind, Seed, Variant
from prefdelta.evaluation.selection import Selection
from prefdelta.pipeline.aggregation.stages import merge_report, selections
from prefdelta.pipeline.aggregation.world import World
from prefdelta.pipeline.stages import RECORDS
from prefdelta.pipeline.student import STUDENT
from prefdelta.records import Record, read_rows
from prefdelta.store import Artifact


def outcome(world: World, artifacts: Mapping[str, Artifact]) -> DomainOutcome:
    """Everything measured in one domain."""
    chosen = selections(artifacts[f"{world.name}/selection"])
    variants: list[Variant] = []
    records: dict[tuple[str, Seed], list[Record]] = {}
    for variant, tests in _variants(world, chosen, artifacts):
        variants.append(variant)
        for seed, artifact in tests.items():
            records[variant.name, seed] = records_of(artifact, variant.scale)
    return DomainOutcome(variants, records, chosen["merges"], chosen["singles"])


def records_of(test: Artifact, scale: float | None) -> list[Record]:
    """The records of a test at one scale; a model without an adapter is tested under scale 1."""
    return read_rows(test.path / f"scale-{1.0 if scale is None else scale:g}" / RECORDS, Record)


def _variants(
    world: World, chosen: Mapping[str, Selection], artifacts: Mapping[str, Artifact]
) -> Iterator[tuple[Variant, dict[Seed, Artifact]]]:
    """Every variant, with its test artifact for each seed."""

    def tests(name: str, seeds: tuple[int, ...] = world.recipe.seeds) -> dict[Seed, Artifact]:
        return {seed: artifacts[f"{world.name}/test/{seed}/{name}"] for seed in seeds}

    yield Variant(STUDENT, "student"), tests(STUDENT)
    for label in world.sources:
        if f"{world.name}/test/weak/{label}" in artifacts:
            yield Variant(f"weak:{label}", "weak", label), {None: artifacts[f"{world.name}/test/weak/{label}"]}
    for name in world.deltas:
        for variant in _scaled(name, "single", chosen["singles"], _delta_norms(world, name, artifacts)):
            yield variant, tests(name)
    for name in world.methods:
        for variant in _scaled(name, "merge", chosen["merges"], _merge_norms(world, name, artifacts)):
            yield variant, tests(name)
    for baseline in world.recipe.baselines:
        for variant in _scaled(baseline, "baseline", chosen["baselines"], {}):
            yield variant, tests(baseline)
    for control in world.recipe.controls:
        seeds = tuple(seed for seed in world.recipe.seeds if world.controls(seed))
        *singles, merged = world.control_variants(control)
        for name in singles:
            yield Variant(name, "control", name, scale=1.0), tests(name, seeds)
        for variant in _scaled(merged, "control", chosen["controls"], {}):
            yield variant, tests(merged, seeds)


def _scaled(name: str, kind: Kind, chosen: Selection, norms: Mapping[str, float]) -> Iterator[Variant]:
    """A variant at λ = 1 and, if validation chose another scale, at that one."""
    for scale in sorted({1.0, chosen.scale[name]}):
        yield Variant(
            name if scale == 1.0 else f"{name}@{scale:g}",
            kind,
            name,
            scale=scale,
            tuned=scale == chosen.scale[name],
            norm=scale * norms["norm"] if "norm" in norms else None,
            norm_ratio_to_average=scale * norms["ratio"] if "ratio" in norms else None,
            cosine_to_average=norms.get("cosine"),
        )


def _delta_norms(world: World, delta: str, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """‖ΔW‖ of one delta, and its ratio to the average's; from a merge report, which knows both."""
    place = world.deltas.index(delta)
    reports = [_report(world, seed, world.methods[0], artifacts) for seed in world.recipe.seeds]
    return {
        "norm": _mean([report["adapters"][place]["norm"] for report in reports]),
        "ratio": _mean([report["adapters"][place]["norm"] / report["average_norm"] for report in reports]),
    }


def _merge_norms(world: World, method: str, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    reports = [_report(world, seed, method, artifacts) for seed in world.recipe.seeds]
    return {
        "norm": _mean([report["norm"] for report in reports]),
        "ratio": _mean([report["norm_ratio"] for report in reports]),
        "cosine": _mean([report["cosine_to_average"] for report in reports]),
    }


def _report(world: World, seed: int, method: str, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    return merge_report(artifacts[f"{world.name}/merges/{seed}/{method}"])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
