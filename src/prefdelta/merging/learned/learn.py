"""Learning the coefficients of a merge: adapters, a frozen model and tasks in, one merged adapter out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from prefdelta.adapters import Adapter, write_files
from prefdelta.core.files import write_json
from prefdelta.core.jsonl import read_objects
from prefdelta.core.names import tell_apart
from prefdelta.core.records import digest
from prefdelta.merging.engine import merged_info, stored_dtype
from prefdelta.merging.inputs import check_arguments, common_modules
from prefdelta.merging.learned.branches import branches
from prefdelta.merging.learned.merged_model import directions_and_layout, folded, save_coefficients
from prefdelta.merging.learned.methods import get_learned
from prefdelta.merging.learned.optimise import CHECKPOINTS, optimise
from prefdelta.merging.learned.report import LOG, REPORT, LearningReport, TaskReport, learned_card
from prefdelta.merging.learned.start import calibrated_start
from prefdelta.merging.learned.tasks import Task, find_anchors
from prefdelta.merging.registry import Options
from prefdelta.recipe.learning import Learning
from prefdelta.training.checkpoints import Checkpoints
from prefdelta.training.loop import Progress

COEFFICIENTS = "coefficients.safetensors"


def learn(
    model: nn.Module,
    adapters: Sequence[Adapter],
    tasks: Sequence[Task],
    *,
    method: str,
    options: Mapping[str, Any] | Options | None = None,
    folder: Path | str,
    settings: Learning | None = None,
    seed: int = 0,
    anchors: Mapping[str, float] | None = None,
    identity: str = "",
    progress: Progress | None = None,
) -> LearningReport:
    """Learn the coefficients of a merge on data, and write the merged adapter.

    Writes PEFT's two files, ``coefficients.safetensors`` (φ by module), ``learning.jsonl`` (one line per step) and
    ``learning.json`` (the report) into ``folder``. On a CPU with a fixed number of threads their bytes depend on the
    arguments only. Called again with the same arguments after a kill, it resumes from the last checkpoint.

    Heads that the adapters store are not merged: each task keeps its own, in its objective.

    Args:
        model: the adapters' base; its weights are not changed.
        adapters: what to merge.
        tasks: what to learn from.
        method: a name of :data:`prefdelta.merging.learned.methods.LEARNED`.
        options: the method's own options.
        folder: where the results go, made if need be.
        settings: optimiser, scalarisation and preference. Without a ``start`` it is looked for, see
            :func:`prefdelta.merging.learned.start.calibrated_start`, and the report has what was found.
        seed: decides the order of the data.
        anchors: zᵢ by task, if known from before; else they are computed.
        identity: says which model and data these are; a checkpoint made with another one is not used.
        progress: called with (steps done, steps in all).

    Raises:
        PrefdeltaError: the adapters do not fit together or the model, the tasks do not fit, or somebody else's files
            lie where checkpoints are to go; see :func:`optimise`.
    """
    settings, folder = settings or Learning(), Path(folder)
    chosen = get_learned(method)
    checked = chosen.parse(options, len(adapters))
    check_arguments(adapters, folder, None, 1.0, None, "drop")
    Checkpoints(folder / CHECKPOINTS, "").check()  # before the anchors are computed
    labels = tell_apart([adapter.path for adapter in adapters])
    fixed = dict(anchors) if anchors is not None else find_anchors(model, adapters, tasks)
    told = [method, checked.model_dump(), settings.model_dump(), seed, identity, fixed, [task.name for task in tasks]]
    fingerprints = [adapter.fingerprint for adapter in adapters]
    key = digest([*told, *fingerprints])

    parts, layout = directions_and_layout(model, adapters, method, checked)
    vector = layout.constant(settings.start or 0.0).to(next(iter(parts.values())).left.device)

    with branches(model, parts, lambda module: layout.of(vector, module)) as branched:
        if settings.start is None:
            found = calibrated_start(branched, vector, tasks, fixed, settings, seed=seed)
            settings = settings.model_copy(update={"start": found})
            vector.fill_(found)
        learned = optimise(
            branched, vector, tasks, fixed, settings, seed=seed, folder=folder, key=key, progress=progress
        ).cpu()
    del parts
    info = merged_info(adapters)
    ranks = write_files(
        folder,
        folded(adapters, method, checked, layout, learned),
        like=info,
        dtype=stored_dtype(None, adapters),
        names=common_modules(adapters, labels),
    )
    save_coefficients(layout, learned, folder / COEFFICIENTS)
    lines = [line for _, line in read_objects(folder / LOG)]
    first, last = lines[0], lines[-1]
    anchored = {task.name for task in tasks if task.own is not None}
    report = LearningReport(
        prefdelta=metadata.version("prefdelta"),
        method=method,
        paper=chosen.paper,
        options=checked.model_dump(mode="json"),
        settings=settings.model_dump(mode="json"),
        seed=seed,
        adapters=dict(zip(labels, fingerprints, strict=True)),
        coefficients=layout.size,
        stored_ranks=tuple(sorted(set(ranks.values()))),
        first_total=first["total"],
        last_total=last["total"],
        tasks=tuple(
            TaskReport(
                name=name,
                anchor=fixed[name] if name in anchored else None,
                first=first["objectives"][name],
                last=value,
                last_weight=last["weights"][name],
            )
            for name, value in last["objectives"].items()
        ),
    )
    write_json(folder / REPORT, report.to_json())
    (folder / "README.md").write_text(learned_card(report, chosen.summary, info.base_model), encoding="utf-8")
    return report
