"""``prefdelta merge --into BASE``: the words of the command line in, a merged model and a table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from prefdelta.cli.merge_words import check_method, parse_scale, parse_weights
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.progress import Display

if TYPE_CHECKING:
    from prefdelta.merging.baking.bake import Dtype


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
        PrefdeltaError: as :func:`prefdelta.merging.baking.apply_merge`, or a rank was asked of the stored adapter.
    """
    if rank != "exact":
        raise PrefdeltaError(f"--rank {rank} is for a stored adapter; a merge --into a base is not cut.")
    check_method(method, options, len(adapters))
    factors = parse_weights(weights, len(adapters))
    size = parse_scale(scale, f"--scale {scale!r}", "norm-matched nor projection; --into takes no other")
    from prefdelta.merging.baking import apply_merge, print_apply  # here, as torch takes seconds to import

    with Display(console) as display:
        display.start(output.name)
        report = apply_merge(
            base,
            adapters,
            output,
            method=method,
            weights=factors,
            scale=size,
            options=options,
            dtype=dtype,
            extra_weights="drop" if drop_modules_to_save else "refuse",
            overwrite=overwrite,
            progress=display.inner,
        )
        display.finish()
    print_apply(report, output, console)
