"""Tables of an inspection for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from prefdelta.merging import METHODS
from prefdelta.merging.inspection.results import Inspection


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print the adapters, their pairs, what the methods would do, and every warning."""
    for table in (_adapters(inspection), _pairs(inspection), _methods(inspection)):
        if table.row_count:
            console.print(table)
    refused = [entry for entry in inspection.methods if entry.refusal]
    if refused:
        console.print(f"not previewed: {', '.join(entry.method for entry in refused)}", highlight=False, style="dim")
    if inspection.methods:
        left_out = len(METHODS) - len(inspection.methods)
        console.print(
            f"previewed: {len(inspection.methods)} of {len(METHODS)} methods; --methods NAME,NAME or --methods all "
            f"previews the other {left_out}"
            if left_out
            else "previewed: all methods",
            highlight=False,
            style="dim",
        )
    for warning in inspection.warnings:
        console.print(f"warning: {warning}", highlight=False, style="yellow")


def _adapters(inspection: Inspection) -> Table:
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
    table = Table("method", "norm / average", "cosine to average")
    for entry in inspection.methods:
        if entry.norm_ratio is not None and entry.cosine is not None:
            table.add_row(entry.method, f"{entry.norm_ratio:.3f}", f"{entry.cosine:.3f}")
    return table
