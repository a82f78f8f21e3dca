"""From the artifacts of a finished run to ``results.json``, ``report.html`` and the merged adapters to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from prefdelta.adapters import Adapter, servable_rank
from prefdelta.adapters.sources import SAFETENSORS_NAME
from prefdelta.core.files import file_digest, replace_text, write_json
from prefdelta.core.manifests import versions
from prefdelta.core.records import Pair, read_rows
from prefdelta.core.store import Artifact, Store
from prefdelta.evaluation.benchmarks import answered_items
from prefdelta.evaluation.results import RESULTS, AggregationResults, Domain
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.learning import GEOMETRY, final_merge
from prefdelta.experiments.aggregation.outcomes import outcome, records_of
from prefdelta.experiments.aggregation.summary import summarise
from prefdelta.experiments.aggregation.watching import watched
from prefdelta.experiments.identity import portable
from prefdelta.experiments.plan import PICTURE, REPORT
from prefdelta.experiments.preference_pairs import PAIRS
from prefdelta.experiments.student import STUDENT
from prefdelta.recipe import Delta, Recipe, source_label
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


def publish(
    recipe: Recipe, domains: Mapping[str, DomainContext], store: Store, artifacts: Mapping[str, Artifact]
) -> Path:
    """Write what a finished run has to say; returns the path of the report.

    Beside ``results.json``, ``report.html`` and ``result.svg`` it makes, in each domain, the artifact ``merged``: the
    adapter that was chosen, with its scale folded in and a model card.

    Raises:
        OSError: a file cannot be written.
    """
    outcomes = {name: outcome(domain, artifacts) for name, domain in domains.items()}
    results = summarise(recipe.name, recipe.seeds, outcomes)
    if recipe.watch is not None:
        results = _with_watched(results, artifacts)
    lineage = {name: _merged(domain, store, artifacts, results.domains[name]) for name, domain in domains.items()}
    report = ReportInput(
        results=results,
        recipe=yaml.safe_dump(portable(recipe), sort_keys=False, allow_unicode=True),
        description=recipe.description,
        geometry={name: artifacts[f"{name}/geometry"].json(GEOMETRY) for name in domains},
        transcripts={name: _transcripts(domain, artifacts, results.domains[name]) for name, domain in domains.items()},
        lineage=lineage,
        versions=versions(),
    )
    write_json(store.root / RESULTS, results.to_json())
    replace_text(store.root / PICTURE, draw_result(results))
    write_report(report, store.root / REPORT)
    return store.root / REPORT


def _with_watched(results: AggregationResults, artifacts: Mapping[str, Artifact]) -> AggregationResults:
    domains = {
        name: domain.model_copy(
            update={"watch": watched({seed: artifacts[f"{name}/watch/{seed}"] for seed in results.seeds})}
        )
        for name, domain in results.domains.items()
    }
    return results.model_copy(update={"domains": domains})


def _merged(
    domain: DomainContext,
    store: Store,
    artifacts: Mapping[str, Artifact],
    results: Domain,
) -> DomainLineage:
    """Make the adapter to use, and tell where it comes from."""
    seeds = domain.recipe.seeds
    method = results.summary.best_merge.name
    inputs = {"selection": artifacts[f"{domain.name}/selection"]}
    for seed in seeds:
        inputs |= {f"{seed}/{delta}": artifacts[f"{domain.name}/adapters/{seed}/{delta}"] for delta in domain.deltas}
        inputs[f"{seed}/{method}"] = artifacts[f"{domain.name}/merges/{seed}/{method}"]
    config = {"adapters": domain.deltas, "seeds": seeds, "results": results.model_dump(mode="json", by_alias=True)}

    def make(work: Path) -> None:
        final_merge(work, inputs, seeds, domain.deltas)
        lineage = _lineage(domain, artifacts, work / "adapter")
        (work / "adapter" / "README.md").write_text(
            model_card(domain.recipe.name, domain.name, results, lineage), encoding="utf-8"
        )

    name = f"{domain.name}/merged"
    made_of: dict[str, Any] = {"stage": "merged", "config": config, "inputs": inputs}
    merged = store.reuse(name, **made_of) or store.build(name, **made_of, make=make)
    return _lineage(domain, artifacts, merged.path / "adapter")


def _lineage(domain: DomainContext, artifacts: Mapping[str, Artifact], adapter: Path) -> DomainLineage:
    opened = Adapter.open(adapter)
    asked, prompts = domain.settings.prompts, artifacts[f"{domain.name}/prompts"]
    return DomainLineage(
        student=Node(domain.recipe.student.path),
        prompts=Node(Path(asked.source).name, f"{asked.count} prompts", prompts.content),
        deltas=tuple(_delta_lineage(delta, domain, artifacts) for delta in domain.settings.deltas),
        merged=Node(f"{domain.name}/merged", "", file_digest(adapter / SAFETENSORS_NAME)),
        folder=f"{domain.name}/merged/adapter",
        rank=servable_rank(max(opened.rank(module) for module in opened.modules)),
    )


def _delta_lineage(delta: Delta, domain: DomainContext, artifacts: Mapping[str, Artifact]) -> DeltaLineage:
    def answers(label: str) -> Node:
        return Node(label, "answers", artifacts[f"{domain.name}/responses/{label}"].content)

    pairs = artifacts[f"{domain.name}/pairs/{delta.name}"]
    adapter = artifacts[f"{domain.name}/adapters/{domain.recipe.seeds[0]}/{delta.name}"]
    training = domain.settings.training
    return DeltaLineage(
        name=delta.name,
        weak=answers(source_label(delta.weak)),
        weaker=answers(source_label(delta.weaker)),
        pairs=Node(f"{len(read_rows(pairs.path / PAIRS, Pair))} pairs", "", pairs.content),
        adapter=Node(f"{training.objective.name.upper()} adapter", f"rank {training.lora.r}", adapter.content),
    )


def _transcripts(domain: DomainContext, artifacts: Mapping[str, Artifact], results: Domain) -> list[Transcript]:
    seed = domain.recipe.seeds[0]
    best = results.summary.best_merge
    return pick_transcripts(
        answered_items(domain.settings.benchmarks, "test"),
        records_of(artifacts[f"{domain.name}/test/{seed}/{STUDENT}"], None),
        records_of(artifacts[f"{domain.name}/test/{seed}/{best.name}"], best.scale),
    )
