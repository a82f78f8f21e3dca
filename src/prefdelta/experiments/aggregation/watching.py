"""The watched tasks: answered by the student, by the merge that was chosen, and by it without each of its deltas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefdelta.adapters import Adapter, MemoryAdapter
from prefdelta.core.records import RECORDS, Record, read_rows
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.core.store import Artifact
from prefdelta.evaluation.results import Watched
from prefdelta.evaluation.watching import MERGE, STUDENT, WITHOUT, watch_summary
from prefdelta.experiments.aggregation.domain_context import DomainContext
from prefdelta.experiments.aggregation.learning import merge_options
from prefdelta.experiments.aggregation.selection import selected
from prefdelta.experiments.evaluation import (
    Exam,
    Subject,
    answering_config,
    division_of_records,
    evaluate,
    work_of_exam,
)
from prefdelta.experiments.identity import benchmark_externals
from prefdelta.experiments.unit import Inputs, RunContext, Unit
from prefdelta.merging.in_memory import merge_in_memory
from prefdelta.recipe import By, Named
from prefdelta.recipe.watching import Watch


def watch(domain: DomainContext, seed: int, settings: Watch) -> Unit:
    """The adapters of one training seed on the watched tasks -> one folder of records per variant."""
    deltas = domain.deltas
    variants: dict[str, list[str]] = {STUDENT: [], MERGE: list(deltas)}
    if len(deltas) > 1:
        variants |= {WITHOUT + delta: [other for other in deltas if other != delta] for delta in deltas}

    exam = Exam(settings.benchmarks, settings.sampling, None, "test", seed)

    # A label does not tell what it stands for, as a name made of a method and its options does.
    labelled = {
        each.called: {"name": each.name, "options": each.options} for each in domain.merges.values() if each.label
    }

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        name, scale = selected(inputs["selection"]).merge
        method = domain.merges[name]
        for variant, members in variants.items():
            adapter = _merged(inputs, method, members, seed, domain.by) if members else None
            evaluate(
                work / variant,
                context,
                Subject(domain.student.ref, adapter, scale),
                exam,
                rank=domain.rank,
                shard=shard,
            )

    return Unit(
        domain.path(f"watch/{seed}"),
        "watch",
        config={
            "watch": settings,
            "deltas": deltas,
            "seed": seed,
            **({"labelled": labelled} if labelled else {}),
            **answering_config(domain.student.given),
        },
        inputs={
            **{delta: domain.path(f"adapters/{seed}/{delta}") for delta in deltas},
            **{f"validation of {delta}": domain.path(f"validation/{delta}") for delta in deltas},
            "selection": domain.path("selection"),
            **domain.student.inputs,
        },
        externals={**domain.student.externals(), **benchmark_externals(settings.benchmarks)},
        make=make,
        work=work_of_exam(domain.student.given, exam, len(variants)),
        resumable=True,
        division=division_of_records(domain.student.given, exam, make),
    )


def watched(artifacts: Mapping[int, Artifact]) -> dict[str, dict[str, Watched]]:
    """The summary of what was watched, from the artifacts of :func:`watch` by training seed."""
    records = {
        (folder.name, seed): read_rows(folder / RECORDS, Record)
        for seed, artifact in artifacts.items()
        for folder in sorted(path for path in artifact.path.iterdir() if path.is_dir())
    }
    return watch_summary(records)


def _merged(inputs: Inputs, method: Named, members: Sequence[str], seed: int, by: By) -> MemoryAdapter:
    """The merge at λ = 1, by the rule of the recipe's merges; see :func:`merge_options`."""
    options = merge_options(inputs, method, members, seed, by)
    return merge_in_memory([Adapter.open(inputs[name].path) for name in members], method=method.name, options=options)
