"""Merges whose coefficients are learned on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Output, Overwrite, Settings
from prefdelta.core.progress import terminal

if TYPE_CHECKING:
    from rich.console import Console


@app.command(cls=Command)
def learn(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    base: Annotated[str, typer.Option(help="Model id, folder or micro:NAME that the adapters belong to.")],
    output: Output,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(help="Held-out pairs (or answers, for objectives without labels): one file, or one per adapter."),
    ] = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option(help="Prompts that each adapter's own model answers, for objectives without labels."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="What is learned: tara-a, tara-b, ada-task, ada-module, gam-task, gam-module.")
    ] = "tara-b",
    seed: Annotated[int, typer.Option(help="Seed of the data order.")] = 0,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Merge with weights learned on held-out pairs. Run it again to continue after an interruption."""
    from prefdelta.experiments.single.learning import learn_unit
    from prefdelta.experiments.single.unit import run_single

    unit = learn_unit(adapters, base, method, pairs or (), prompts or (), seed, tuple(settings or ()))
    console = terminal()
    run_single(unit, output, console, overwrite=overwrite)
    _print_learning(output, console)


def _print_learning(folder: Path, console: Console) -> None:
    """Tell what was learned: every task's objective at the start and the end, and how many coefficients moved."""
    from rich.table import Table

    from prefdelta.merging.learned.report import read_report

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
    console.print(f"{len(report.adapters)} adapters, rank {ranks}\nadapter: {folder}")
