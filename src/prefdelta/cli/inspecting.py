"""Looking at adapters before they are merged."""

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
    from rich.table import Table

    from prefdelta.merging.inspection.results import Inspection


@app.command(cls=Command)
def inspect(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with heat maps to this file.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Merge methods to preview, comma separated, or all; a few if left out.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview/--no-preview", help="Whether to preview merges at all.")] = True,
    overwrite: Overwrite = False,
) -> None:
    """Compare adapters: norms, cosines, what merges would do to them."""
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.core.outputs import check_file, write_output
    from prefdelta.core.progress import Display
    from prefdelta.merging import METHODS
    from prefdelta.merging.inspection import PREVIEWED, inspect_adapters
    from prefdelta.report.inspection import render

    if methods and not preview:
        raise PrefdeltaError("--methods names merges to preview and --no-preview asks for none; give one of the two.")
    named = PREVIEWED if methods is None else tuple(word.strip() for word in methods.split(","))
    chosen = () if not preview else tuple(METHODS) if named == ("all",) else named
    console = terminal()
    for path in filter(None, (json, html)):
        check_file(path, inputs=adapters, overwrite=overwrite)
    with Display(console) as display:
        display.start("inspect")
        found = inspect_adapters(adapters, methods=chosen, progress=display.inner)
    print_inspection(found, console)
    if json:
        write_output(json, found.model_dump_json(indent=1) + "\n", inputs=adapters, overwrite=overwrite)
    if html:
        write_output(html, render(found), inputs=adapters, overwrite=overwrite)


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print the adapters, their pairs, what the methods would do, and every warning."""
    from prefdelta.merging import METHODS

    for table in (_adapters(inspection), _pairs(inspection), _methods(inspection)):
        if table.row_count:
            console.print(table)
    refused = [entry for entry in inspection.methods if entry.refusal]
    if refused:
        console.print(f"not previewed: {', '.join(entry.method for entry in refused)}", style="dim")
    if inspection.methods:
        left_out = len(METHODS) - len(inspection.methods)
        console.print(
            f"previewed: {len(inspection.methods)} of {len(METHODS)} methods; --methods NAME,NAME or --methods all "
            f"previews the other {left_out}"
            if left_out
            else "previewed: all methods",
            style="dim",
        )
    for warning in inspection.warnings:
        console.print(f"warning: {warning}", style="yellow")


def _adapters(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table("adapter", "base model", "modules", "coverage", "ranks", "effective rank", "‖ΔW‖", "own scale")
    for entry in inspection.adapters:
        effective = "-" if entry.effective_rank is None else f"{entry.effective_rank:.1f}"
        ranks = ", ".join(str(rank) for rank in entry.ranks)
        table.add_row(
            entry.name, entry.base_model or "-", str(entry.modules), f"{entry.coverage:.0%}", ranks, effective,
            f"{entry.norm:.4g}", "-" if entry.own_scale is None else f"{entry.own_scale:.3g}",
        )  # fmt: skip
    return table


def _pairs(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table(
        "pair", "cosine", "norm ratio", "overlap out (chance)", "overlap in (chance)", "least angle out / in",
        "sign conflict (excess)",
    )  # fmt: skip
    names = [entry.name for entry in inspection.adapters]
    for pair in inspection.pairs:
        sign = f"{pair.sign.share:.1%} ({pair.sign.excess:+.1%})" if pair.sign else "-"
        table.add_row(
            f"{names[pair.first]} / {names[pair.second]}",
            f"{pair.cosine:+.3f}",
            f"{pair.norm_ratio:.2f}",
            f"{pair.overlap_out:.3f} ({pair.chance_out:.3f})",
            f"{pair.overlap_in:.3f} ({pair.chance_in:.3f})",
            f"{pair.angles_out[0]:.0f}° / {pair.angles_in[0]:.0f}°",
            sign,
        )
    return table


def _methods(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table("method", "norm / average", "cosine to average")
    for entry in inspection.methods:
        if entry.norm_ratio is not None and entry.cosine is not None:
            table.add_row(entry.method, f"{entry.norm_ratio:.3f}", f"{entry.cosine:.3f}")
    return table
