"""From the test artifacts of a run to what the results are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefdelta.evaluation.results import DomainOutcome, Kind, Seed, Variant
from prefdelta.evaluation.selection import Selection
from prefdelta.pipeline import stages
from prefdelta.pipeline.domain import STUDENT, DomainPlan
from prefdelta.recipe import Recipe
from prefdelta.records import Record, read_rows
from prefdelta.store import Artifact


def outcome(domain: DomainPlan, recipe: Recipe, artifacts: Mapping[str, Artifact]) -> DomainOutcome:
    """Everything measured in one domain."""
    chosen = stages.selections(artifacts[f"{domain.name}/selection"])
    variants: list[Variant] = []
    records: dict[tuple[str, Seed], list[Record]] = {}
    for variant, tests in _variants(domain, recipe, chosen, artifacts):
        variants.append(variant)
        for seed, artifact in tests.items():
            records[variant.name, seed] = records_of(artifact, variant.scale)
    return DomainOutcome(variants, records, chosen["merges"], chosen["singles"])


def records_of(test: Artifact, scale: float | None) -> list[Record]:
    """The records of a test at one scale; a model without an adapter is tested under scale 1."""
    return read_rows(test.path / f"scale-{1.0 if scale is None else scale:g}" / stages.RECORDS, Record)


def _variants(
    domain: DomainPlan, recipe: Recipe, chosen: Mapping[str, Selection], artifacts: Mapping[str, Artifact]
) -> Iterator[tuple[Variant, dict[Seed, Artifact]]]:
    """Every variant, with its test artifact for each seed."""

    def tests(name: str, seeds: tuple[int, ...] = recipe.seeds) -> dict[Seed, Artifact]:
        return {seed: artifacts[f"{domain.name}/test/{seed}/{name}"] for seed in seeds}

    yield Variant(STUDENT, "student"), tests(STUDENT)
    for label in domain.sources:
        if f"{domain.name}/test/weak/{label}" in artifacts:
            yield Variant(f"weak:{label}", "weak", label), {None: artifacts[f"{domain.name}/test/weak/{label}"]}
    for name in domain.deltas:
        for variant in _scaled(name, "single", chosen["singles"], _delta_norms(domain, recipe, name, artifacts)):
            yield variant, tests(name)
    for name in domain.methods:
        for variant in _scaled(name, "merge", chosen["merges"], _merge_norms(domain, recipe.seeds, name, artifacts)):
            yield variant, tests(name)
    for baseline in recipe.baselines:
        for variant in _scaled(baseline, "baseline", chosen["baselines"], {}):
            yield variant, tests(baseline)
    for control in recipe.controls:
        seeds = tuple(seed for seed in recipe.seeds if domain.controls(seed))
        *singles, merged = domain.control_variants(control)
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


def _delta_norms(domain: DomainPlan, recipe: Recipe, delta: str, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """‖ΔW‖ of one delta, and its ratio to the average's; from a merge report, which knows both."""
    place = domain.deltas.index(delta)
    reports = [_report(domain, seed, domain.methods[0], artifacts) for seed in recipe.seeds]
    return {
        "norm": _mean([report["adapters"][place]["norm"] for report in reports]),
        "ratio": _mean([report["adapters"][place]["norm"] / report["average_norm"] for report in reports]),
    }


def _merge_norms(
    domain: DomainPlan, seeds: tuple[int, ...], method: str, artifacts: Mapping[str, Artifact]
) -> dict[str, float]:
    reports = [_report(domain, seed, method, artifacts) for seed in seeds]
    return {
        "norm": _mean([report["norm"] for report in reports]),
        "ratio": _mean([report["norm_ratio"] for report in reports]),
        "cosine": _mean([report["cosine_to_average"] for report in reports]),
    }


def _report(domain: DomainPlan, seed: int, method: str, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    return stages.merge_report(artifacts[f"{domain.name}/merges/{seed}/{method}"])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
