"""Which of two runs is better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Overwrite
from prefdelta.core.progress import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from prefdelta.evaluation.results import ComparisonResults


@app.command(cls=Command)
def compare(
    run_a: Annotated[Path, typer.Argument(help="A records.jsonl, its folder, or a finished run.")],
    run_b: Annotated[Path, typer.Argument(help="The other run; differences are RUN_B minus RUN_A.")],
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Tell which of two runs is better, and if it may be chance."""

    from prefdelta.core.files import readable_json
    from prefdelta.core.invocation import command
    from prefdelta.core.outputs import check_file, write_output
    from prefdelta.evaluation import comparison

    if json:
        check_file(json, inputs=[run_a, run_b], overwrite=overwrite)
    found = comparison.compare(*comparison.read_runs(run_a, run_b))
    found = found.model_copy(update={"command": list(command())})
    if json:
        write_output(json, readable_json(found.to_json()), inputs=[run_a, run_b], overwrite=overwrite)
    _print_comparison(found, terminal())


def _print_comparison(comparison: ComparisonResults, console: Console) -> None:
    """The table, what it can resolve, and the verdict."""
    from rich.table import Table

    from prefdelta.evaluation.comparison.verdict import p_text
    from prefdelta.evaluation.results import signed

    console.print(f"A: {comparison.first}\nB: {comparison.second}")
    table = Table("benchmark", "items", "A", "B", "B − A", "95 % interval", "p", "detectable")
    for row in [*comparison.benchmarks, *([comparison.overall] if comparison.overall else [])]:
        table.add_row(
            row.task or "mean",
            f"{row.items:,}" + (f" in {row.clusters:,}" if row.clusters != row.items else ""),
            f"{row.first.score:.1f}",
            f"{row.second.score:.1f}",
            signed(row.difference),
            f"{signed(row.low)} to {signed(row.high)}",
            p_text(row.p_holm) + ("*" if row.test == "mcnemar" else ""),
            f"{row.detectable:.1f}",
        )
    console.print(table)
    health = Table("benchmark", "unparsed %", "truncated %", "tokens")
    for row in comparison.benchmarks:
        a, b = row.first, row.second
        health.add_row(
            row.task,
            f"{a.unparsed:.1f} → {b.unparsed:.1f}",
            f"{a.truncated:.1f} → {b.truncated:.1f}",
            f"{a.tokens:.0f} → {b.tokens:.0f}",
        )
    console.print(health)
    console.print(
        "A and B in percent, differences in points. p is corrected for the number of benchmarks (Holm); * exact "
        "McNemar test, else the level at which the interval touches 0. detectable: the smallest true difference that "
        "would be found four times in five.\n",
    )
    console.print(comparison.verdict)
