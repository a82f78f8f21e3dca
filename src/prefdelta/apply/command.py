"""``prefdelta merge --into BASE``: the words of the command line in, a merged model and a table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from prefdelta.apply.bake import Dtype
from prefdelta.apply.merged import apply_merge
from prefdelta.apply.report import print_apply
from prefdelta.errors import PrefdeltaError
from prefdelta.merging.command import parse_scale, parse_weights
from prefdelta.pipeline.display import Display


def merge_into_command(
    base: Path,
    adapters: Sequence[Path],
    output: Path,
    *,
    method: str,
    scale: float | str,
    weights: str | None,
    rank: str,
    dtype: Dtype,
    drop_modules_to_save: bool,
    overwrite: bool,
    options: Mapping[str, Any],
    console: Console,
) -> None:
    """Merge adapters into their base model and tell what was done.

    Raises:
        PrefdeltaError: as :func:`prefdelta.apply.apply_merge`, or a rank was asked of the stored adapter.
    """
    if rank != "exact":
        raise PrefdeltaError(f"--rank {rank} is for a stored adapter; a merge --into a base is not cut.")
    with Display(console) as display:
        display.start(output.name)
        report = apply_merge(
            base,
            adapters,
            output,
            method=method,
            weights=parse_weights(weights),
            scale=parse_scale(scale),
            options=options,
            dtype=dtype,
            extra_weights="drop" if drop_modules_to_save else "refuse",
            overwrite=overwrite,
            progress=display.inner,
        )
        display.finish()
    print_apply(report, output, console)
