"""From the artifacts of a finished run to ``results.json``, ``report.html`` and the merged adapters to use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.benchmarks import benchmark_items
from prefdelta.evaluation.results import summarise
from prefdelta.pipeline.aggregation.outcomes import outcome, records_of
from prefdelta.pipeline.aggregation.stages import GEOMETRY, final_merge
from prefdelta.pipeline.aggregation.watching import watched
from prefdelta.pipeline.aggregation.world import World
from prefdelta.pipeline.identity import portable, source_label
from prefdelta.pipeline.plan import PICTURE, REPORT, RESULTS
from prefdelta.pipeline.stages import PAIRS
from prefdelta.pipeline.student import STUDENT
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


def publish(recipe: Recipe, worlds: Mapping[str, World], store: Store, artifacts: Mapping[str, Artifact]) -> Path:
    """Write what a finished run has to say; returns the path of the report.

    Beside ``results.json``, ``report.html`` and ``result.svg`` it makes, in each domain, the artifact ``merged``: the
    adapter that validation chose, with its scale folded in and a model card.

    Raises:
        PrefdeltaError: a file cannot be written.
    """
    outcomes = {name: outcome(world, artifacts) for name, world in worlds.items()}
    results = summarise(recipe.name, recipe.seeds, outcomes)
    if recipe.watch is not None:
        for name, domain in results["domains"].items():
            domain["watch"] = watched({seed: artifacts[f"{name}/watch/{seed}"] for seed in recipe.seeds})
    lineage = {name: _merged(world, store, artifacts, results["domains"][name]) for name, world in worlds.items()}
    report = ReportInput(
        results=results,
        recipe=yaml.safe_dump(portable(recipe), sort_keys=False, allow_unicode=True),
        description=recipe.description,
        geometry={
            name: json.loads((artifacts[f"{name}/geometry"].path / GEOMETRY).read_text(encoding="utf-8"))
            for name in worlds
        },
        transcripts={name: _transcripts(world, artifacts, results["domains"][name]) for name, world in worlds.items()},
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
    world: World,
    store: Store,
    artifacts: Mapping[str, Artifact],
    results: Mapping[str, Any],
) -> DomainLineage:
    """Make the adapter to use, and tell where it comes from."""
    seeds = world.recipe.seeds
    method = results["summary"]["best_merge"]["name"]
    inputs = {"selection": artifacts[f"{world.name}/selection"]}
    for seed in seeds:
        inputs |= {f"{seed}/{delta}": artifacts[f"{world.name}/adapters/{seed}/{delta}"] for delta in world.deltas}
        inputs[f"{seed}/{method}"] = artifacts[f"{world.name}/merges/{seed}/{method}"]
    config = {"adapters": world.deltas, "seeds": seeds, "results": results}

    def make(work: Path) -> None:
        final_merge(work, inputs, seeds, world.deltas)
        lineage = _lineage(world, artifacts, work / "adapter")
        (work / "adapter" / "README.md").write_text(
            model_card(world.recipe.name, world.name, results, lineage), encoding="utf-8"
        )

    name = f"{world.name}/merged"
    merged = store.find(name, stage="merged", config=config, inputs=inputs) or store.build(
        name, stage="merged", config=config, inputs=inputs, make=make
    )
    return _lineage(world, artifacts, merged.path / "adapter")


def _lineage(world: World, artifacts: Mapping[str, Artifact], adapter: Path) -> DomainLineage:
    prompts = artifacts[f"{world.name}/prompts"]
    return DomainLineage(
        student=Node(world.recipe.student.path),
        prompts=Node(Path(world.domain.prompts.source).name, f"{world.domain.prompts.count} prompts", prompts.content),
        deltas=tuple(_delta_lineage(delta, world, artifacts) for delta in world.domain.deltas),
        merged=Node(f"{world.name}/merged", "", file_digest(adapter / "adapter_model.safetensors")),
    )


def _delta_lineage(delta: Delta, world: World, artifacts: Mapping[str, Artifact]) -> DeltaLineage:
    def answers(label: str) -> Node:
        return Node(label, "answers", artifacts[f"{world.name}/responses/{label}"].content)

    pairs = artifacts[f"{world.name}/pairs/{delta.name}"]
    adapter = artifacts[f"{world.name}/adapters/{world.recipe.seeds[0]}/{delta.name}"]
    training = world.domain.training
    return DeltaLineage(
        name=delta.name,
        weak=answers(source_label(delta.weak)),
        weaker=answers(source_label(delta.weaker)),
        pairs=Node(f"{len(read_rows(pairs.path / PAIRS, Pair))} pairs", "", pairs.content),
        adapter=Node(f"{training.objective.upper()} adapter", f"rank {training.lora.r}", adapter.content),
    )


def _transcripts(world: World, artifacts: Mapping[str, Artifact], results: Mapping[str, Any]) -> list[Transcript]:
    seed = world.recipe.seeds[0]
    best = results["summary"]["best_merge"]
    items = {benchmark.name: benchmark_items(benchmark, "test") for benchmark in world.domain.benchmarks}
    return pick_transcripts(
        items,
        records_of(artifacts[f"{world.name}/test/{seed}/{STUDENT}"], None),
        records_of(artifacts[f"{world.name}/test/{seed}/{best['name']}"], best["scale"]),
    )
