"""``prefdelta merge``: the words of the command line in, a merged adapter and a table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from rich.console import Console
from rich.table import Table

from prefdelta.cli.merge_words import check_method, parse_scale, parse_weights
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.progress import Display
from prefdelta.merging.report import MergeReport
from prefdelta.merging.scale import Calibration, Scale, Stored
from prefdelta.recipe import Sampling, Search, configure


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
    base: str | None,
    prompts: Sequence[str],
    pairs: Path | None,
    scorer: str,
    count: int,
    budget: int,
    beta: float,
    corpus: str | None,
    seed: int,
) -> None:
    """Merge adapters and tell what was done.

    ``options`` are the method's; under ``sampling``, how answers are drawn where they choose the scale.
    """
    rest = dict(options)
    drawn = configure(Sampling, {"temperature": 1.0, **dict(rest.pop("sampling", {}))}, origin="--set sampling")
    check_method(method, rest, len(adapters))
    factors, size = parse_weights(weights, len(adapters)), _scale(scale)
    calibrated = size in get_args(Calibration)
    from prefdelta.merging import merge  # here, as torch takes seconds to import: mistakes are told before

    def tell_cost(evaluations: int, each: int) -> None:
        what = "sequences read, nothing generated" if scale == "pairs" else "answers"
        console.print(f"at most {evaluations} evaluations of {each:,} {what}: {evaluations * each:,}", highlight=False)

    with Display(console) as display:
        display.start(output.name)
        report = merge(
            adapters,
            output,
            method=method,
            weights=factors,
            scale=size,
            options=rest,
            dtype=None if dtype == "auto" else dtype,
            rank=_rank(rank),
            extra_weights="drop" if drop_modules_to_save else "refuse",
            overwrite=overwrite,
            base=base,
            prompts=prompts,
            pairs=pairs,
            scorer=scorer,
            count=count,
            budget=budget,
            beta=beta,
            sampling=drawn,
            corpus=configure(Search, {"corpus": corpus}, origin="--corpus") if corpus else None,
            seed=seed,
            told=tell_cost,
            progress=display.inner,
        )
        display.finish()
    if calibrated:
        _print_choice(output, console)
    if size == "stored":
        _print_stored(report, adapters, console)
    print_merge(report, output, console)


def _print_choice(output: Path, console: Console) -> None:
    from prefdelta.cli.tune import print_tuning  # here, as other merges need no language model
    from prefdelta.merging.tuning import RECORD_NAME, TuningRecord

    record = TuningRecord.model_validate_json((output / RECORD_NAME).read_text(encoding="utf-8"))
    print_tuning(record, output, console)


def _print_stored(report: MergeReport, adapters: Sequence[Path], console: Console) -> None:
    from prefdelta.adapters.trained import read_own_scale  # here, as other merges need it not

    own = zip(report.adapters, map(read_own_scale, adapters), strict=True)
    told = ", ".join(f"{entry.name} {found.scale:.3g}" for entry, found in own if found)
    console.print(f"λ = {report.scale:g}, from the adapters' own scales: {told}", highlight=False)


def _scale(given: float | str) -> Scale | Calibration | Stored:
    for word in (*get_args(Calibration), *get_args(Stored)):
        if given == word:
            return cast(Calibration | Stored, given)
    return parse_scale(given, f"--scale {given!r}", "norm-matched, projection, stored, agreement or pairs")


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
