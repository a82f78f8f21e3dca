"""The report of baking, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from prefdelta.merging.baking.rounding import RoundingLoss
from prefdelta.merging.report import MergeReport


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BakedAdapter(_Frozen):
    """One adapter that went into the model: its folder's name, and the fingerprint of what it held."""

    name: str
    fingerprint: str


class BakedModule(_Frozen):
    """One adapted module: the tensor it went into, the sizes of W and ΔW, and the loss by type.

    ``losses`` has the type the tensor is ``stored`` in, and float32 and bfloat16 for comparison.
    """

    module: str
    tensor: str
    shape: tuple[int, ...]
    stored: str
    weight_norm: float
    update_norm: float
    losses: Mapping[str, RoundingLoss]


class ApplyReport(_Frozen):
    """The whole model; ``model_dump_json`` gives what is stored as ``prefdelta_apply.json``.

    ``merge`` tells how several ``adapters`` became one update; ``None`` for a single one as it is. ``loss`` is over
    all modules as stored, ``losses`` what it would be in each type. ``untied`` says that the output head was given a
    weight of its own because only one side of a shared one was changed.
    """

    version: str
    base: str
    adapters: tuple[BakedAdapter, ...]
    scale: float | str
    merge: MergeReport | None
    shards: tuple[str, ...]
    tensors: int
    bytes: int
    untied: bool
    update_norm: float
    weight_norm: float
    loss: RoundingLoss
    losses: Mapping[str, RoundingLoss]
    warnings: tuple[str, ...]
    modules: tuple[BakedModule, ...]


def print_apply(report: ApplyReport, output: Path, console: Console, *, modules: int = 5) -> None:
    """Tell what was baked and what rounding took, with the ``modules`` that lost most."""
    names = ", ".join(entry.name for entry in report.adapters)
    made = names if report.merge is None else f"{report.merge.method} of {names}"
    scale = report.scale if isinstance(report.scale, str) else f"{report.scale:g}"
    stored = sorted({entry.stored for entry in report.modules})
    table = Table(
        "module", "type", "‖W‖", "‖ΔW‖", "error of ΔW", "entries lost",
        title=f"{made} baked into {report.base} at scale {scale}",
    )  # fmt: skip
    table.add_row(
        f"all {len(report.modules)} modules", ", ".join(stored), f"{report.weight_norm:.4g}",
        f"{report.update_norm:.4g}", *_cells(report.loss), style="bold",
    )  # fmt: skip
    for name, loss in report.losses.items():
        if stored != [name]:
            table.add_row(f"  had they been {name}", name, "", "", *_cells(loss), style="dim")
    table.add_section()
    worst = sorted(report.modules, key=lambda entry: -(entry.losses[entry.stored].relative_error or 0))[:modules]
    for entry in worst:
        sizes = (f"{entry.weight_norm:.4g}", f"{entry.update_norm:.4g}")
        table.add_row(entry.module, entry.stored, *sizes, *_cells(entry.losses[entry.stored]))
    console.print(table)
    for warning in (*(report.merge.warnings if report.merge else ()), *report.warnings):
        console.print(f"warning: {warning}", highlight=False, style="yellow")
    console.print(f"model: {output}", highlight=False)


def _cells(loss: RoundingLoss) -> tuple[str, str]:
    if loss.relative_error is None or loss.vanished is None:
        return "no update", ""
    return f"{100 * loss.relative_error:.2g} %", f"{100 * loss.vanished:.2g} %"
