"""``prefdelta merge``: the words of the command line in, a merged adapter and a table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from prefdelta.errors import PrefdeltaError
from prefdelta.merging.engine import merge
from prefdelta.merging.report import MergeReport
from prefdelta.merging.scale import Scale
from prefdelta.pipeline.display import Display


def merge_command(
    adapters: Sequence[Path],
    output: Path,
    *,
    method: str,
    scale: float | str,
    weights: str | None,
    rank: str,
    dtype: str,
    drop_modules_to_save: bool,
    overwrite: bool,
    options: Mapping[str, Any],
    console: Console,
) -> None:
    """Merge adapters and tell what was done."""
    with Display(console) as display:
        display.start(output.name)
        report = merge(
            adapters,
            output,
            method=method,
            weights=parse_weights(weights),
            scale=parse_scale(scale),
            options=options,
            dtype=None if dtype == "auto" else dtype,
            rank=_rank(rank),
            extra_weights="drop" if drop_modules_to_save else "refuse",
            overwrite=overwrite,
            progress=display.inner,
        )
        display.finish()
    print_merge(report, output, console)


def parse_weights(text: str | None) -> list[float] | None:
    """Weights written with commas between them.

    Raises:
        PrefdeltaError: a word is no number.
    """
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise PrefdeltaError(f"--weights {text!r} is not a comma-separated list of numbers.") from error


def parse_scale(given: float | str) -> Scale:
    """A number, or the name of a rule.

    Raises:
        PrefdeltaError: it is neither.
    """
    if given == "norm-matched":
        return "norm-matched"
    if given == "projection":
        return "projection"
    try:
        return float(given)
    except ValueError as error:
        raise PrefdeltaError(f"--scale {given!r} is neither a number nor norm-matched nor projection.") from error


def _rank(text: str) -> int | Literal["servable"] | None:
    if text == "exact":
        return None
    if text == "servable":
        return "servable"
    if text.isdigit():
        return int(text)
    raise PrefdeltaError(f"--rank {text!r} is neither a number nor exact nor servable.")


def print_merge(report: MergeReport, output: Path, console: Console) -> None:
    """Tell what a merge did: inputs, norms, and every warning."""
    scale = report.scale if isinstance(report.scale, str) else f"{report.scale:g}"
    columns = ("adapter", "weight", "modules", "ranks", "‖ΔW‖", "projection kept")
    table = Table(*columns, title=f"{report.method} at scale {scale}")
    for entry in report.adapters:
        ranks = ", ".join(str(rank) for rank in entry.ranks)
        kept = "" if entry.kept_projection is None else f"{entry.kept_projection:.3g}"
        table.add_row(entry.name, f"{entry.weight:g}", str(entry.modules), ranks, f"{entry.norm:.4g}", kept)
    table.add_section()
    ranks = ", ".join(str(rank) for rank in report.stored_ranks)
    table.add_row(output.name, "", str(len(report.modules)), ranks, f"{report.norm:.4g}", "")
    console.print(table)
    if report.norm_ratio is not None and report.cosine_to_average is not None:
        console.print(
            f"against the plain average: norm × {report.norm_ratio:.3f}, cosine {report.cosine_to_average:.3f}",
            highlight=False,
        )
    for warning in report.warnings:
        console.print(f"warning: {warning}", highlight=False, style="yellow")
    console.print(f"adapter: {output}", highlight=False)
