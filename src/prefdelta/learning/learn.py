"""Adapters, a frozen model and tasks in, one adapter with learned coefficients out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from prefdelta.adapter import Adapter, write_files
from prefdelta.learning.branches import branches
from prefdelta.learning.merged import folded, laid_out, save_coefficients
from prefdelta.learning.methods import get_learned
from prefdelta.learning.optimise import Progress, optimise
from prefdelta.learning.report import LearningReport, write_report
from prefdelta.learning.tasks import Task, find_anchors
from prefdelta.merging.engine import merged_info, stored_dtype
from prefdelta.merging.inputs import check_arguments, common_modules
from prefdelta.merging.labels import tell_apart
from prefdelta.recipe.learning import Learning
from prefdelta.records import digest

COEFFICIENTS = "coefficients.safetensors"


def learn(
    model: nn.Module,
    adapters: Sequence[Adapter],
    tasks: Sequence[Task],
    *,
    method: str,
    folder: Path | str,
    settings: Learning | None = None,
    seed: int = 0,
    anchors: Mapping[str, float] | None = None,
    identity: str = "",
    snapshots: Collection[int] = (),
    progress: Progress | None = None,
) -> LearningReport:
    """Learn the coefficients of a merge on data, and write the merged adapter.

    Writes PEFT's two files, ``coefficients.safetensors`` (φ by module), ``learning.jsonl`` (one line per step) and
    ``learning.json`` (the report) into ``folder``. On a CPU with a fixed number of threads their bytes depend on the
    arguments only. Called again with the same arguments after a kill, it goes on from the last checkpoint.

    Heads that lie beside the adapters' factors are not merged: each task keeps its own, in its objective.

    Args:
        model: the adapters' base; its weights are not changed.
        adapters: what to merge.
        tasks: what to learn from.
        method: a name of :data:`prefdelta.learning.methods.LEARNED`.
        folder: where the results go, made if need be.
        settings: optimiser, scalarisation and preference.
        seed: decides the order of the data.
        anchors: zᵢ by task, if known from before; else they are computed.
        identity: says which model and data these are; a checkpoint made with another one is not gone on from.
        snapshots: steps after which φ is also stored, as ``coefficients-STEP.safetensors``. There is no schedule, so
            they are what a shorter run would have learned.
        progress: called with (steps done, steps in all).

    Raises:
        PrefdeltaError: the adapters do not fit together or the model, or the tasks do not fit; see :func:`optimise`.
    """
    settings, folder = settings or Learning(), Path(folder)
    check_arguments(adapters, folder, None, 1.0, None, "drop")
    labels = tell_apart([adapter.path for adapter in adapters])
    chosen = get_learned(method)
    fixed = dict(anchors) if anchors is not None else find_anchors(model, adapters, tasks)
    told = [method, settings.model_dump(), seed, identity, fixed, [task.name for task in tasks]]
    key = digest([*told, *_fingerprints(adapters)])

    parts, layout = laid_out(model, adapters, method)
    vector = layout.constant(settings.start).to(next(iter(parts.values())).left.device)

    def keep(number: int, current: Tensor) -> None:
        if number in snapshots:
            save_coefficients(layout, current, folder / f"coefficients-{number}.safetensors")

    with branches(model, parts, lambda module: layout.of(vector, module)) as branched:
        learned = optimise(
            branched, vector, tasks, fixed, settings, seed=seed, folder=folder, key=key, progress=progress, observe=keep
        ).cpu()
    del parts
    ranks = write_files(
        folder,
        folded(adapters, method, layout, learned),
        like=merged_info(adapters),
        dtype=stored_dtype(None, adapters),
        names=common_modules(adapters, labels),
    )
    save_coefficients(layout, learned, folder / COEFFICIENTS)
    return write_report(
        folder,
        method=chosen,
        settings=settings,
        seed=seed,
        labels=labels,
        fingerprints=_fingerprints(adapters),
        anchors={task.name: None if task.own is None else fixed[task.name] for task in tasks},
        coefficients=layout.size,
        ranks=sorted(set(ranks.values())),
        base_model=merged_info(adapters).base_model,
    )


def _fingerprints(adapters: Sequence[Adapter]) -> list[str]:
    return [adapter.fingerprint for adapter in adapters]
