"""What ``prefdelta learn`` tells about a learned merge."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from prefdelta.learning.report import read_report


def print_learning(folder: Path, console: Console) -> None:
    """Tell what was learned: every task's objective at the start and the end, and how many coefficients moved."""
    report = read_report(folder)
    table = Table(
        *("task", "own adapter alone", "first step", "last step", "weight in the last step"),
        title=f"{report.method}: {report.coefficients} coefficients, {report.settings['steps']} steps",
    )
    for task in report.tasks:
        anchor = "" if task.anchor is None else f"{task.anchor:.4f}"
        table.add_row(task.name, anchor, f"{task.first:.4f}", f"{task.last:.4f}", f"{task.last_weight:.3f}")
    console.print(table)
    ranks = ", ".join(str(rank) for rank in report.stored_ranks)
    console.print(f"{len(report.adapters)} adapters, rank {ranks}\nadapter: {folder}", highlight=False)
