"""From the artifacts of a finished fusion to ``results.json``, ``report.html`` and ``result.svg``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from prefdelta.core.files import replace_text, write_json
from prefdelta.core.manifests import versions
from prefdelta.core.records import RECORDS, Record, read_rows
from prefdelta.core.store import Artifact, Store
from prefdelta.evaluation.benchmarks import Split, answered_items
from prefdelta.evaluation.results import (
    RESULTS,
    AverageVersus,
    FusionData,
    FusionMethod,
    FusionResults,
    MethodKind,
    TaskVersus,
    TestVersus,
)
from prefdelta.evaluation.results.fusion import SOURCE
from prefdelta.evaluation.score_table import ScoreTable, Seed
from prefdelta.experiments.fusion.fusion_context import SFT, FusionContext
from prefdelta.experiments.fusion.learning import COUNTS, SUMMARY
from prefdelta.experiments.identity import portable
from prefdelta.experiments.plan import PICTURE, REPORT
from prefdelta.experiments.student import STUDENT
from prefdelta.report import pick_transcripts
from prefdelta.report.fusion import FusionReport, draw_fusion, write_fusion_report

Artifacts = Mapping[str, Artifact]


def publish_fusion(fusion: FusionContext, store: Store, artifacts: Artifacts) -> Path:
    """Write what a finished fusion has to say; returns the path of the report.

    Raises:
        OSError: a file cannot be written.
    """
    recipe = fusion.recipe
    results = fusion_results(fusion, artifacts)
    first = recipe.seeds[0]
    report = FusionReport(
        results=results,
        recipe=yaml.safe_dump(portable(recipe), sort_keys=False, allow_unicode=True),
        description=recipe.description,
        transcripts=pick_transcripts(
            answered_items(recipe.benchmarks, "test"),
            _records(artifacts[f"test/{first}/{STUDENT}"]),
            _records(artifacts[f"test/{first}/{recipe.main}"]),
        ),
        versions=versions(),
    )
    write_json(store.root / RESULTS, results.to_json())
    replace_text(store.root / PICTURE, draw_fusion(results))
    write_fusion_report(report, store.root / REPORT)
    return store.root / REPORT


def fusion_results(fusion: FusionContext, artifacts: Artifacts) -> FusionResults:
    """All numbers of a fusion; see docs/wrpo.md."""
    recipe = fusion.recipe
    test = ScoreTable.from_records(_answers(fusion, artifacts, "test"))
    validation = _validation(fusion, artifacts)
    kinds = _kinds(fusion)
    trained = [name for name in test.models if kinds[name] not in ("source", "main")]
    behaviours = {name: test.behaviours(name) for name in test.models}
    return FusionResults(
        recipe=recipe.name,
        seeds=list(recipe.seeds),
        main=recipe.main,
        control=recipe.control,
        tasks=test.tasks,
        comparisons=test.against(recipe.main, trained),
        methods={name: _method(fusion, name, kinds[name], test, validation) for name in test.models},
        data={str(seed): _data(artifacts, seed) for seed in recipe.seeds},
        behaviours=behaviours if any(behaviours.values()) else None,
    )


def _method(
    fusion: FusionContext, name: str, kind: MethodKind, test: ScoreTable, validation: ScoreTable | None
) -> FusionMethod:
    recipe = fusion.recipe
    settings = recipe.methods.get(name)
    references = [other for other in (STUDENT, recipe.control) if other != name]

    def versus(table: ScoreTable, task: str | None) -> dict[str, Any]:
        return {
            "score": table.score(name, task),
            "versus": {other: table.interval(name, other, task) for other in references},
        }

    def average(table: ScoreTable) -> AverageVersus:
        return AverageVersus(**versus(table, None), seeds=table.per_seed(name))

    return FusionMethod(
        kind=kind,
        begins_at=settings.start if settings else None,
        objective=settings.training.objective.name if settings else None,
        options=settings.training.objective.options if settings else {},
        test=TestVersus(
            average=average(test),
            tasks={
                task: TaskVersus(**versus(test, task), n=test.items(task), **asdict(test.health(name, task)))
                for task in test.tasks
            },
        ),
        validation=average(validation) if validation is not None and name in validation.models else None,
    )


def _kinds(fusion: FusionContext) -> dict[str, MethodKind]:
    recipe = fusion.recipe
    kinds: dict[str, MethodKind] = {STUDENT: "student", SFT: "stage", recipe.main: "main", recipe.control: "control"}
    for name in recipe.comparisons:
        kinds[name] = "comparison"
    for label in fusion.sources:
        kinds[SOURCE + label] = "source"
    return kinds


def _validation(fusion: FusionContext, artifacts: Artifacts) -> ScoreTable | None:
    if not any(benchmark.validation for benchmark in fusion.recipe.benchmarks):
        return None
    return ScoreTable.from_records(_answers(fusion, artifacts, "validation"))


def _answers(fusion: FusionContext, artifacts: Artifacts, split: Split) -> dict[tuple[str, Seed], list[Record]]:
    """The records of one split by (model, seed); a source has no training seed."""
    recipe = fusion.recipe
    records: dict[tuple[str, Seed], list[Record]] = {
        (variant, seed): _records(artifacts[f"{split}/{seed}/{variant}"])
        for variant in (STUDENT, SFT, *recipe.methods)
        for seed in recipe.seeds
    }
    for label in fusion.sources:
        name = f"{split}/sources/{label}"
        if name in artifacts:
            records[SOURCE + label, None] = _records(artifacts[name])
    return records


def _data(artifacts: Artifacts, seed: int) -> FusionData:
    """What was trained on: how many rows, from whom, and how good and long the three answers of a triple are."""
    triples = artifacts[f"triples/{seed}"]
    return FusionData(
        demonstrations=artifacts[f"demonstrations/{seed}"].json(COUNTS),
        triples=triples.json(COUNTS),
        answers=triples.json(SUMMARY),
    )


def _records(artifact: Artifact) -> list[Record]:
    return read_rows(artifact.path / RECORDS, Record)
