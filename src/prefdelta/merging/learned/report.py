"""The report of a learned merge, ``learning.json``, and its model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from prefdelta.core.names import markdown
from prefdelta.evaluation.results import Result, Results
from prefdelta.merging.report import card_front

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
    """The report that :func:`prefdelta.merging.learned.learn.learn` stored in a folder."""
    return LearningReport.model_validate_json((folder / REPORT).read_text(encoding="utf-8"))


def learned_card(report: LearningReport, summary: str, base_model: str | None) -> str:
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
