"""Making an adapter or a model: merging, baking, converting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import DropModules, Dtype, Output, Overwrite, Settings
from prefdelta.cli.tuning import tell_cost
from prefdelta.core.progress import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from prefdelta.merging.baking.report import ApplyReport
    from prefdelta.merging.baking.rounding import RoundingLoss
    from prefdelta.merging.report import MergeReport


@app.command(cls=Command)
def merge(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    output: Output,
    method: Annotated[str, typer.Option(help="How to merge; `prefdelta methods` lists all.")] = "average",
    scale: Annotated[
        str,
        typer.Option(
            help="λ, a factor on the merged update; norm-matched or projection; stored, from what the trainings "
            "measured; agreement (with --base, --prompts) or pairs (with --base, --pairs), which choose it without "
            "labels."
        ),
    ] = "1",
    base: Annotated[
        str | None, typer.Option(help="Model id, folder or micro:NAME that is asked for the scale.")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option(help="Items whose answers are compared: a JSONL file or micro:TASK.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="JSONL file of preference pairs, for --scale pairs.")] = None,
    scorer: Annotated[str, typer.Option(help="How answers are parsed for --scale agreement.")] = "exact-match",
    count: Annotated[int, typer.Option(help="At most how many items of each source, or pairs.")] = 200,
    budget: Annotated[int, typer.Option(help="At most how many λ are tried.")] = 9,
    beta: Annotated[float, typer.Option(help="β of the loss on pairs.")] = 0.5,
    corpus: Annotated[str | None, typer.Option(help="What the base may search while it answers.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the answers.")] = 0,
    weights: Annotated[str | None, typer.Option(help="One weight per adapter, comma separated.")] = None,
    rank: Annotated[str, typer.Option(help="Output rank: exact, servable (one vLLM takes), or a number.")] = "exact",
    drop_modules_to_save: DropModules = False,
    into: Annotated[
        Path | None, typer.Option(help="Bake the merge into this base model instead of writing an adapter.")
    ] = None,
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Merge LoRA adapters into one LoRA adapter. The base model is needed for --scale agreement and pairs only."""
    from prefdelta.cli.merge_words import known_scale, parse_rank, parse_weights, wanted_scale
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.core.progress import Display
    from prefdelta.experiments.single.settings import search_from, section
    from prefdelta.merging.registry import configured
    from prefdelta.recipe import Sampling, configure, settings_mapping

    options, console = dict(settings_mapping(settings or ())), terminal()
    # Where answers choose the scale, the settings under ``sampling`` and ``search`` say how they are drawn.
    drawn = section("sampling", options) if into is None else {}
    searched = search_from(corpus, options) if into is None else None
    sampling = configure(Sampling, {"temperature": 1.0, **drawn}, origin="--set sampling")
    configured(method, options, len(adapters))
    factors, cut = parse_weights(weights, len(adapters)), parse_rank(rank)
    extra_weights: Literal["refuse", "drop"] = "drop" if drop_modules_to_save else "refuse"
    if into is not None:
        if base or prompts or pairs or corpus:
            raise PrefdeltaError("--into bakes a scale that is known; choose it by a merge without --into first.")
        if cut is not None:
            raise PrefdeltaError(f"--rank {rank} is for a stored adapter; a merge --into a base is not cut.")
        known = known_scale(scale)
        from prefdelta.merging.baking import apply_merge  # here, as torch takes seconds to import

        with Display(console) as display:
            display.start(output.name)
            baked = apply_merge(
                into,
                adapters,
                output,
                method=method,
                weights=factors,
                scale=known,
                options=options,
                dtype=dtype,
                extra_weights=extra_weights,
                overwrite=overwrite,
                progress=display.inner,
            )
            display.finish()
        print_apply(baked, output, console)
        return
    wanted = wanted_scale(scale)
    from prefdelta.merging import merge as merge_adapters  # here, as torch takes seconds to import

    with Display(console) as display:
        display.start(output.name)
        report = merge_adapters(
            adapters,
            output,
            method=method,
            weights=factors,
            scale=wanted,
            options=options,
            dtype=None if dtype == "auto" else dtype,
            rank=cut,
            extra_weights=extra_weights,
            overwrite=overwrite,
            base=base,
            prompts=prompts or (),
            pairs=pairs,
            scorer=scorer,
            count=count,
            budget=budget,
            beta=beta,
            sampling=sampling,
            corpus=searched,
            seed=seed,
            told=partial(tell_cost, console, scale),
            progress=display.inner,
        )
        display.finish()
    if wanted in ("agreement", "pairs"):
        _print_choice(output, console)
    if wanted == "stored":
        _print_stored(report, adapters, console)
    print_merge(report, output, console)


@app.command(cls=Command)
def apply(
    base: Annotated[Path, typer.Argument(help="The base model's folder.")],
    adapter: Annotated[Path, typer.Argument(help="A PEFT LoRA adapter folder.")],
    output: Output,
    scale: Annotated[float, typer.Option(help="λ: factor on the adapter's update.")] = 1.0,
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Bake an adapter into its base model. Reports how much of the update rounding loses."""
    from prefdelta.core.progress import Display
    from prefdelta.merging.baking import apply_adapter

    console = terminal()
    with Display(console) as display:
        display.start(output.name)
        report = apply_adapter(
            base, adapter, output, scale=scale, dtype=dtype, overwrite=overwrite, progress=display.inner
        )
    print_apply(report, output, console)


@app.command(cls=Command)
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with a llama2.c .bin checkpoint and tokenizer.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Turn a llama2.c checkpoint into a Hugging Face model folder."""
    from prefdelta.core.llama2c import convert_llama2c

    convert_llama2c(checkpoint, output, overwrite=overwrite)
    terminal().print(f"model: {output}")


def print_merge(report: MergeReport, output: Path, console: Console) -> None:
    """Tell what a merge did: inputs, norms, and every warning."""
    from rich.table import Table

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
        )
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow")
    console.print(f"adapter: {output}")


def _print_choice(output: Path, console: Console) -> None:
    from prefdelta.cli.tuning import print_tuning  # here, as other merges need no language model
    from prefdelta.merging.tuning import RECORD_NAME, TuningRecord

    record = TuningRecord.model_validate_json((output / RECORD_NAME).read_text(encoding="utf-8"))
    print_tuning(record, output, console)


def _print_stored(report: MergeReport, adapters: Sequence[Path], console: Console) -> None:
    from prefdelta.adapters.trained import read_own_scale  # here, as other merges need it not

    own = zip(report.adapters, map(read_own_scale, adapters), strict=True)
    told = ", ".join(f"{entry.name} {found.scale:.3g}" for entry, found in own if found)
    console.print(f"λ = {report.scale:g}, from the adapters' own scales: {told}")


def print_apply(report: ApplyReport, output: Path, console: Console, *, modules: int = 5) -> None:
    """Tell what was baked and what rounding took, with the ``modules`` that lost most."""
    from rich.table import Table

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
        console.print(f"warning: {warning}", style="yellow")
    console.print(f"model: {output}")


def _cells(loss: RoundingLoss) -> tuple[str, str]:
    if loss.relative_error is None or loss.vanished is None:
        return "no update", ""
    return f"{100 * loss.relative_error:.2g} %", f"{100 * loss.vanished:.2g} %"
