"""The report of a learned merge, ``learning.json``, and its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from prefdelta.core.files import write_json
from prefdelta.core.jsonl import read_objects
from prefdelta.core.names import markdown
from prefdelta.evaluation.results import Result, Results
from prefdelta.merging.learned.methods import LearnedMethod
from prefdelta.merging.registry import Options
from prefdelta.merging.report import card_front
from prefdelta.recipe.learning import Learning

REPORT = "learning.json"
LOG = "learning.jsonl"
"""One line a step, written as it is taken."""


class TaskReport(Result):
    """One task: its objective f on the first and the last step's rows, and its weight ∂Ψ/∂f in the last step.

    ``anchor`` is z, the objective of the task's own adapter over all rows; ``None`` for a task without an adapter,
    whose z is 0.
    """

    name: str
    anchor: float | None
    first: float
    last: float
    last_weight: float


class LearningReport(Results):
    """The whole run; it is stored as ``learning.json``.

    ``options`` are the method's, ``coefficients`` is how many were learned, ``stored_ranks`` the ranks of the folded
    modules.
    """

    kind: Literal["learned"] = "learned"
    prefdelta: str
    method: str
    paper: str
    options: Mapping[str, Any] = {}
    settings: Mapping[str, Any]
    seed: int
    adapters: Mapping[str, str]
    coefficients: int
    stored_ranks: tuple[int, ...]
    first_total: float
    last_total: float
    tasks: tuple[TaskReport, ...]


def read_report(folder: Path) -> LearningReport:
    """The report that :func:`write_report` stored in a folder."""
    return LearningReport.model_validate_json((folder / REPORT).read_text(encoding="utf-8"))


def write_report(
    folder: Path,
    *,
    method: LearnedMethod,
    options: Options,
    settings: Learning,
    seed: int,
    labels: Sequence[str],
    fingerprints: Sequence[str],
    anchors: Mapping[str, float | None],
    coefficients: int,
    ranks: Sequence[int],
    base_model: str | None,
) -> LearningReport:
    """Make the report from the log in ``folder``, and store it there with a model card."""
    lines = [line for _, line in read_objects(folder / LOG)]
    first, last = lines[0], lines[-1]
    report = LearningReport(
        prefdelta=metadata.version("prefdelta"),
        method=method.name,
        paper=method.paper,
        options=options.model_dump(mode="json"),
        settings=settings.model_dump(mode="json"),
        seed=seed,
        adapters=dict(zip(labels, fingerprints, strict=True)),
        coefficients=coefficients,
        stored_ranks=tuple(ranks),
        first_total=first["total"],
        last_total=last["total"],
        tasks=tuple(
            TaskReport(
                name=name,
                anchor=anchors[name],
                first=first["objectives"][name],
                last=last["objectives"][name],
                last_weight=last["weights"][name],
            )
            for name in last["objectives"]
        ),
    )
    write_json(folder / REPORT, report.to_json())
    (folder / "README.md").write_text(_card(report, method.summary, base_model), encoding="utf-8")
    return report


def _card(report: LearningReport, summary: str, base_model: str | None) -> str:
    """The ``README.md`` of the adapter, with the metadata that the Hugging Face Hub reads."""
    front, of = card_front(base_model)
    names = markdown(", ".join(report.adapters))
    rows = [
        f"| {markdown(task.name)} | {'' if task.anchor is None else format(task.anchor, '.4f')} | {task.first:.4f} "
        f"| {task.last:.4f} |"
        for task in report.tasks
    ]
    lines = [
        *front,
        "# Learned merge of LoRA adapters",
        "",
        f"{len(report.adapters)} adapters of {of} ({names}), merged "
        f"by prefdelta {report.prefdelta} with `{report.method}`. {summary} {report.coefficients} coefficients were "
        f"learned in {report.settings['steps']} steps.",
        "",
        "| task | objective of its own adapter | first step | last step |",
        "|---|---|---|---|",
        *rows,
        "",
        f"`{REPORT}` holds all settings, `{LOG}` every step. Source of the method: {report.paper}.",
    ]
    return "\n".join(lines) + "\n"
