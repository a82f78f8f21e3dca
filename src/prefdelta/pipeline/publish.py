"""From the artifacts of a finished run to ``results.json``, ``report.html`` and the merged adapters to use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.benchmarks import benchmark_items
from prefdelta.evaluation.results import summarise
from prefdelta.pipeline import stages
from prefdelta.pipeline.domain import STUDENT, DomainPlan
from prefdelta.pipeline.identity import portable, source_label
from prefdelta.pipeline.outcomes import outcome, records_of
from prefdelta.pipeline.watching import watched
from prefdelta.recipe import Delta, Recipe
from prefdelta.records import Pair, read_rows
from prefdelta.report import (
    DeltaLineage,
    DomainLineage,
    Node,
    ReportInput,
    Transcript,
    draw_result,
    model_card,
    pick_transcripts,
    write_report,
)
from prefdelta.store import Artifact, Store, file_digest, replace_text, versions, write_json

if TYPE_CHECKING:
    from prefdelta.pipeline.aggregation import AggregationPlan

RESULTS = "results.json"
REPORT = "report.html"
PICTURE = "result.svg"


def publish(plan: AggregationPlan, store: Store, artifacts: Mapping[str, Artifact]) -> Path:
    """Write what a finished run has to say; returns the path of the report.

    Beside ``results.json``, ``report.html`` and ``result.svg`` it makes, in each domain, the artifact ``merged``: the
    adapter that validation chose, with its scale folded in and a model card.

    Raises:
        PrefdeltaError: a file cannot be written.
    """
    outcomes = {name: outcome(domain, plan.recipe, artifacts) for name, domain in plan.domains.items()}
    results = summarise(plan.recipe.name, plan.recipe.seeds, outcomes)
    if plan.recipe.watch is not None:
        for name, domain in results["domains"].items():
            domain["watch"] = watched({seed: artifacts[f"{name}/watch/{seed}"] for seed in plan.recipe.seeds})
    lineage = {
        name: _merged(plan, domain, store, artifacts, results["domains"][name]) for name, domain in plan.domains.items()
    }
    report = ReportInput(
        results=results,
        recipe=yaml.safe_dump(portable(plan.recipe), sort_keys=False, allow_unicode=True),
        description=plan.recipe.description,
        geometry={
            name: json.loads((artifacts[f"{name}/geometry"].path / stages.GEOMETRY).read_text(encoding="utf-8"))
            for name in plan.domains
        },
        transcripts={
            name: _transcripts(domain, plan.recipe.seeds[0], artifacts, results["domains"][name])
            for name, domain in plan.domains.items()
        },
        lineage=lineage,
        versions=versions(),
    )
    try:
        write_json(store.root / RESULTS, results)
        replace_text(store.root / PICTURE, draw_result(results))
        write_report(report, store.root / REPORT)
    except OSError as error:
        raise PrefdeltaError(f"cannot write to {store.root}: {error.strerror or error}.") from error
    return store.root / REPORT


def _merged(
    plan: AggregationPlan,
    domain: DomainPlan,
    store: Store,
    artifacts: Mapping[str, Artifact],
    results: Mapping[str, Any],
) -> DomainLineage:
    """Make the adapter to use, and tell where it comes from."""
    seeds = plan.recipe.seeds
    method = results["summary"]["best_merge"]["name"]
    inputs = {"selection": artifacts[f"{domain.name}/selection"]}
    for seed in seeds:
        inputs |= {f"{seed}/{delta}": artifacts[f"{domain.name}/adapters/{seed}/{delta}"] for delta in domain.deltas}
        inputs[f"{seed}/{method}"] = artifacts[f"{domain.name}/merges/{seed}/{method}"]
    config = {"adapters": domain.deltas, "seeds": seeds, "results": results}

    def make(work: Path) -> None:
        stages.final_merge(work, inputs, seeds, domain.deltas)
        lineage = _lineage(plan, domain, artifacts, work / "adapter")
        (work / "adapter" / "README.md").write_text(
            model_card(plan.recipe.name, domain.name, results, lineage), encoding="utf-8"
        )

    name = f"{domain.name}/merged"
    merged = store.find(name, stage="merged", config=config, inputs=inputs) or store.build(
        name, stage="merged", config=config, inputs=inputs, make=make
    )
    return _lineage(plan, domain, artifacts, merged.path / "adapter")


def _lineage(
    plan: AggregationPlan, domain: DomainPlan, artifacts: Mapping[str, Artifact], adapter: Path
) -> DomainLineage:
    prompts = artifacts[f"{domain.name}/prompts"]
    return DomainLineage(
        student=Node(plan.recipe.student.path),
        prompts=Node(
            Path(domain.domain.prompts.source).name, f"{domain.domain.prompts.count} prompts", prompts.content
        ),
        deltas=tuple(_delta_lineage(delta, plan.recipe, domain, artifacts) for delta in domain.domain.deltas),
        merged=Node(f"{domain.name}/merged", "", file_digest(adapter / "adapter_model.safetensors")),
    )


def _delta_lineage(delta: Delta, recipe: Recipe, domain: DomainPlan, artifacts: Mapping[str, Artifact]) -> DeltaLineage:
    def answers(label: str) -> Node:
        return Node(label, "answers", artifacts[f"{domain.name}/responses/{label}"].content)

    pairs = artifacts[f"{domain.name}/pairs/{delta.name}"]
    adapter = artifacts[f"{domain.name}/adapters/{recipe.seeds[0]}/{delta.name}"]
    training = domain.domain.training
    return DeltaLineage(
        name=delta.name,
        weak=answers(source_label(delta.weak)),
        weaker=answers(source_label(delta.weaker)),
        pairs=Node(f"{len(read_rows(pairs.path / stages.PAIRS, Pair))} pairs", "", pairs.content),
        adapter=Node(f"{training.objective.upper()} adapter", f"rank {training.lora.r}", adapter.content),
    )


def _transcripts(
    domain: DomainPlan, seed: int, artifacts: Mapping[str, Artifact], results: Mapping[str, Any]
) -> list[Transcript]:
    best = results["summary"]["best_merge"]
    items = {benchmark.name: benchmark_items(benchmark, "test") for benchmark in domain.domain.benchmarks}
    return pick_transcripts(
        items,
        records_of(artifacts[f"{domain.name}/test/{seed}/{STUDENT}"], None),
        records_of(artifacts[f"{domain.name}/test/{seed}/{best['name']}"], best["scale"]),
    )
