"""From the artifacts of a finished fusion to ``results.json``, ``report.html`` and ``result.svg``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.benchmarks import Split, benchmark_items
from prefdelta.evaluation.contest import Contest
from prefdelta.evaluation.results import Seed, rounded
from prefdelta.pipeline.fusion.stages import COUNTS, SUMMARY
from prefdelta.pipeline.fusion.world import SFT, World
from prefdelta.pipeline.identity import portable
from prefdelta.pipeline.plan import PICTURE, REPORT, RESULTS
from prefdelta.pipeline.stages import RECORDS
from prefdelta.pipeline.student import STUDENT
from prefdelta.records import Record, read_rows
from prefdelta.report import pick_transcripts
from prefdelta.report.fusion import FusionReport, draw_fusion, write_fusion_report
from prefdelta.store import Artifact, Store, replace_text, versions, write_json

SOURCE = "source:"

Artifacts = Mapping[str, Artifact]


def publish_fusion(world: World, store: Store, artifacts: Artifacts) -> Path:
    """Write what a finished fusion has to say; returns the path of the report.

    Raises:
        PrefdeltaError: a file cannot be written.
    """
    recipe = world.recipe
    results = fusion_results(world, artifacts)
    first = recipe.seeds[0]
    report = FusionReport(
        results=results,
        recipe=yaml.safe_dump(portable(recipe), sort_keys=False, allow_unicode=True),
        description=recipe.description,
        transcripts=pick_transcripts(
            {benchmark.name: benchmark_items(benchmark, "test") for benchmark in recipe.benchmarks},
            _records(artifacts[f"test/{first}/{STUDENT}"]),
            _records(artifacts[f"test/{first}/{recipe.main}"]),
        ),
        versions=versions(),
    )
    try:
        write_json(store.root / RESULTS, results)
        replace_text(store.root / PICTURE, draw_fusion(results))
        write_fusion_report(report, store.root / REPORT)
    except OSError as error:
        raise PrefdeltaError(f"cannot write to {store.root}: {error.strerror or error}.") from error
    return store.root / REPORT


def fusion_results(world: World, artifacts: Artifacts) -> dict[str, Any]:
    """All numbers of a fusion, in percentage points, rounded, ready for JSON; see docs/wrpo.md."""
    recipe = world.recipe
    test = Contest(_answers(world, artifacts, "test"))
    validation = _validation(world, artifacts)
    references = [STUDENT, recipe.control]
    kinds = _kinds(world)
    methods: dict[str, Any] = {}
    for name in test.models:
        settings = recipe.methods.get(name)
        methods[name] = {
            "kind": kinds[name],
            "begins_at": settings.start if settings else None,
            "objective": settings.training.objective if settings else None,
            "options": settings.training.options if settings else {},
            "test": test.entry(name, references),
        }
        if validation is not None and name in validation.models:
            methods[name]["validation"] = validation.entry(name, references)["average"]
    trained = [name for name in test.models if kinds[name] not in ("source", "main")]
    result = {
        "schema": 1,
        "kind": "fusion",
        "recipe": recipe.name,
        "seeds": list(recipe.seeds),
        "main": recipe.main,
        "control": recipe.control,
        "tasks": test.tasks,
        "comparisons": test.against(recipe.main, trained),
        "methods": methods,
        "data": {str(seed): _data(artifacts, seed) for seed in recipe.seeds},
    }
    behaviours = {name: test.behaviours(name) for name in test.models}
    if any(behaviours.values()):
        result["behaviours"] = behaviours
    return dict(rounded(result))


def _kinds(world: World) -> dict[str, str]:
    recipe = world.recipe
    kinds = {STUDENT: "student", SFT: "stage", recipe.main: "main", recipe.control: "control"}
    kinds |= dict.fromkeys(recipe.comparisons, "comparison")
    return kinds | {SOURCE + label: "source" for label in world.sources}


def _validation(world: World, artifacts: Artifacts) -> Contest | None:
    if not any(benchmark.validation for benchmark in world.recipe.benchmarks):
        return None
    return Contest(_answers(world, artifacts, "validation"))


def _answers(world: World, artifacts: Artifacts, split: Split) -> dict[tuple[str, Seed], list[Record]]:
    """The records of one split by (model, seed); a source has no training seed."""
    recipe = world.recipe
    records: dict[tuple[str, Seed], list[Record]] = {
        (variant, seed): _records(artifacts[f"{split}/{seed}/{variant}"])
        for variant in (STUDENT, SFT, *recipe.methods)
        for seed in recipe.seeds
    }
    for label in world.sources:
        name = f"{split}/sources/{label}"
        if name in artifacts:
            records[SOURCE + label, None] = _records(artifacts[name])
    return records


def _data(artifacts: Artifacts, seed: int) -> dict[str, Any]:
    """What was trained on: how many rows, from whom, and how good and long the three answers of a triple are."""
    triples = artifacts[f"triples/{seed}"]
    return {
        "demonstrations": _json(artifacts[f"demonstrations/{seed}"], COUNTS),
        "triples": _json(triples, COUNTS),
        "answers": _json(triples, SUMMARY),
    }


def _records(artifact: Artifact) -> list[Record]:
    return read_rows(artifact.path / RECORDS, Record)


def _json(artifact: Artifact, name: str) -> Any:
    return json.loads((artifact.path / name).read_text(encoding="utf-8"))
