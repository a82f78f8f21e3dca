"""Answering the watched tasks: by the student, by the merge that was chosen, and by it without each of its deltas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.adapter import Adapter, MemoryAdapter
from prefdelta.evaluation.watching import MERGE, STUDENT, WITHOUT, watch_summary
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.pipeline.aggregation.stages import merge_options, selections
from prefdelta.pipeline.stages import RECORDS, evaluate
from prefdelta.pipeline.unit import Workbench
from prefdelta.recipe import ModelRef
from prefdelta.recipe.watching import Watch
from prefdelta.records import Record, read_rows
from prefdelta.store import Artifact


def watch(
    work: Path,
    inputs: Mapping[str, Artifact],
    bench: Workbench,
    student: ModelRef,
    settings: Watch,
    deltas: Sequence[str],
    seed: int,
) -> None:
    """Adapters of one training seed -> one folder of records per variant.

    Args:
        work: the working folder.
        inputs: ``selection``; each delta's adapter by its name; ``validation of DELTA``.
        bench: holds the model.
        student: the base model.
        settings: what is watched.
        deltas: the deltas, in the recipe's order.
        seed: of the random numbers of the answers.
    """
    chosen = selections(inputs["selection"])["merges"]
    scale = chosen.scale[chosen.best]
    variants: dict[str, list[str]] = {STUDENT: [], MERGE: list(deltas)}
    if len(deltas) > 1:
        variants |= {WITHOUT + delta: [other for other in deltas if other != delta] for delta in deltas}
    for name, members in variants.items():
        if (work / name / RECORDS).is_file():
            continue
        adapter = _merged(inputs, chosen.best, members) if members else None
        evaluate(
            work / name,
            bench,
            student,
            adapter,
            scale,
            settings.benchmarks,
            settings.sampling,
            None,
            "test",
            seed,
        )


def watched(artifacts: Mapping[int, Artifact]) -> dict[str, Any]:
    """The summary of what was watched, from the artifacts of :func:`watch` by training seed."""
    records = {
        (folder.name, seed): read_rows(folder / RECORDS, Record)
        for seed, artifact in artifacts.items()
        for folder in sorted(path for path in artifact.path.iterdir() if path.is_dir())
    }
    return watch_summary(records)


def _merged(inputs: Mapping[str, Artifact], method: str, members: Sequence[str]) -> MemoryAdapter:
    """The merge at λ = 1, by the rule of the recipe's merges: GAM aligns to the member that does best on validation."""
    options = merge_options(inputs, method, members)
    return merge_in_memory([Adapter.open(inputs[name].path) for name in members], method=method, options=options)
