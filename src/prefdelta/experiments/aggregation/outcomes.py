"""From the test artifacts of a run to what the results are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefdelta.core.records import RECORDS, Record, read_rows
from prefdelta.core.store import Artifact
from prefdelta.evaluation.results import VariantKind
from prefdelta.evaluation.score_table import Seed
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.guard import guarded
from prefdelta.experiments.aggregation.selection import Selected, selected
from prefdelta.experiments.aggregation.summary import DomainOutcome, Variant
from prefdelta.experiments.aggregation.validation import merge_report
from prefdelta.experiments.student import STUDENT


def outcome(domain: DomainContext, artifacts: Mapping[str, Artifact]) -> DomainOutcome:
    """Everything measured in one domain."""
    chosen = selected(artifacts[f"{domain.name}/selection"])
    variants: list[Variant] = []
    records: dict[tuple[str, Seed], list[Record]] = {}
    for variant, tests in _variants(domain, chosen, artifacts):
        variants.append(variant)
        for seed, artifact in tests.items():
            records[variant.name, seed] = records_of(artifact, variant.scale)
    return DomainOutcome(
        variants,
        records,
        chosen.groups["merges"],
        chosen.groups["singles"],
        chosen.labelled,
        chosen.unparsed,
        guarded(artifacts[f"{domain.name}/guard"]),
    )


def records_of(test: Artifact, scale: float | None) -> list[Record]:
    """The records of a test at one scale; a model without an adapter is tested under scale 1."""
    return read_rows(test.path / f"scale-{1.0 if scale is None else scale:g}" / RECORDS, Record)


def _variants(
    domain: DomainContext, chosen: Selected, artifacts: Mapping[str, Artifact]
) -> Iterator[tuple[Variant, dict[Seed, Artifact]]]:
    """Every variant, with its test artifact for each seed."""

    def tests(name: str, seeds: tuple[int, ...] = domain.recipe.seeds) -> dict[Seed, Artifact]:
        return {seed: artifacts[f"{domain.name}/test/{seed}/{name}"] for seed in seeds}

    yield Variant(STUDENT, "student"), tests(STUDENT)
    for label in domain.sources:
        if f"{domain.name}/test/weak/{label}" in artifacts:
            yield Variant(f"weak:{label}", "weak", label), {None: artifacts[f"{domain.name}/test/weak/{label}"]}
    for name in domain.deltas:
        for variant in _scaled(name, "single", chosen, _delta_norms(domain, name, artifacts)):
            yield variant, tests(name)
    for name in domain.methods:
        for variant in _scaled(name, "merge", chosen, _merge_norms(domain, name, artifacts)):
            yield variant, tests(name)
    for baseline in domain.recipe.baselines:
        for variant in _scaled(baseline, "baseline", chosen, {}):
            yield variant, tests(baseline)
    for control in domain.controls:
        *singles, merged = domain.control_variants(control)
        for name in singles:
            yield Variant(name, "control", name, scale=1.0), tests(name, domain.control_seeds)
        for variant in _scaled(merged, "control", chosen, {}):
            yield variant, tests(merged, domain.control_seeds)


def _scaled(name: str, kind: VariantKind, chosen: Selected, norms: Mapping[str, float]) -> Iterator[Variant]:
    """A variant at every λ that it was tested at."""
    tuned = next(group.scale[name] for group in chosen.groups.values() if name in group.scale)
    for scale in chosen.tested(name):
        yield Variant(
            name if scale == 1.0 else f"{name}@{scale:g}",
            kind,
            name,
            scale=scale,
            tuned=scale == tuned,
            norm=scale * norms["norm"] if "norm" in norms else None,
            norm_ratio_to_average=scale * norms["ratio"] if "ratio" in norms else None,
            cosine_to_average=norms.get("cosine"),
        )


def _delta_norms(domain: DomainContext, delta: str, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    """‖ΔW‖ of one delta, and its ratio to the average's; from a merge report, which knows both."""
    place = domain.deltas.index(delta)
    reports = [_report(domain, seed, domain.methods[0], artifacts) for seed in domain.recipe.seeds]
    return {
        "norm": _mean([report["adapters"][place]["norm"] for report in reports]),
        "ratio": _mean([report["adapters"][place]["norm"] / report["average_norm"] for report in reports]),
    }


def _merge_norms(domain: DomainContext, method: str, artifacts: Mapping[str, Artifact]) -> dict[str, float]:
    reports = [_report(domain, seed, method, artifacts) for seed in domain.recipe.seeds]
    return {
        "norm": _mean([report["norm"] for report in reports]),
        "ratio": _mean([report["norm_ratio"] for report in reports]),
        "cosine": _mean([report["cosine_to_average"] for report in reports]),
    }


def _report(domain: DomainContext, seed: int, method: str, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    return merge_report(artifacts[f"{domain.name}/merges/{seed}/{method}"])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
