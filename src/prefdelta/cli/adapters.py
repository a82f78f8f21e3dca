"""Commands for people who have adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import DropModules, Dtype, Output, Overwrite, Settings
from prefdelta.core.progress import terminal


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
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.recipe import settings_mapping

    arguments: dict[str, Any] = {
        "method": method,
        "scale": scale,
        "weights": weights,
        "rank": rank,
        "dtype": dtype,
        "drop_modules_to_save": drop_modules_to_save,
        "overwrite": overwrite,
        "options": settings_mapping(settings or ()),
        "console": terminal(),
    }
    chosen_by: dict[str, Any] = {"base": base, "prompts": prompts or (), "pairs": pairs, "corpus": corpus}
    if into is None:
        from prefdelta.cli.merge import merge_command

        how: dict[str, Any] = {"scorer": scorer, "count": count, "budget": budget, "beta": beta, "seed": seed}
        merge_command(adapters, output, **arguments, **chosen_by, **how)
    elif any(chosen_by.values()):
        raise PrefdeltaError("--into bakes a scale that is known; choose it by a merge without --into first.")
    else:
        from prefdelta.cli.apply import merge_into_command

        merge_into_command(into, adapters, output, **arguments)


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
    from prefdelta.cli.inspection_tables import print_inspection
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
    from prefdelta.merging.baking import apply_adapter, print_apply

    console = terminal()
    with Display(console) as display:
        display.start(output.name)
        report = apply_adapter(
            base, adapter, output, scale=scale, dtype=dtype, overwrite=overwrite, progress=display.inner
        )
    print_apply(report, output, console)


@app.command("search", hidden=True, cls=Command)
@app.command(cls=Command)
def tune(
    context: typer.Context,
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    base: Annotated[str, typer.Option(help="Model id, folder or micro:NAME that the adapters belong to.")],
    output: Output,
    items: Annotated[
        list[str] | None, typer.Option(help="Benchmark: a JSONL file or micro:TASK; may be repeated.")
    ] = None,
    by: Annotated[
        Literal["labels", "agreement", "pairs"],
        typer.Option(help="Choose by scores against known answers, by agreement of two answers, or by --pairs."),
    ] = "labels",
    pairs: Annotated[Path | None, typer.Option(help="JSONL file of preference pairs, for --by pairs.")] = None,
    beta: Annotated[float, typer.Option(help="β of the loss on pairs.")] = 0.5,
    split: Annotated[
        Literal["validation", "all"], typer.Option(help="Items to choose by: the validation part, or all of a file.")
    ] = "validation",
    scorer: Annotated[str, typer.Option(help="exact-match, final-number, choice or token-f1.")] = "exact-match",
    count: Annotated[int, typer.Option(help="At most how many items of each benchmark.")] = 200,
    methods: Annotated[str, typer.Option(help="Merge methods to try, comma separated.")] = "average,gam",
    scales: Annotated[
        str, typer.Option(help="λ to try: numbers above 0, norm-matched, projection; or auto, a search over log λ.")
    ] = "0.5,1,1.5,2,3,4,6,8",
    budget: Annotated[int, typer.Option(help="At most how many λ of one merge --scales auto tries.")] = 9,
    select: Annotated[
        Literal["none", "greedy"], typer.Option(help="Whether to look for a subset of the adapters.")
    ] = "none",
    leave_one_out: Annotated[bool, typer.Option("--leave-one-out", help="Measure each adapter's part.")] = False,
    tune_weights: Annotated[int, typer.Option(help="At most how many changes of weights to try.")] = 0,
    corpus: Annotated[str | None, typer.Option(help="Search corpus: micro:corpus or a JSONL file.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampled decoding.")] = 0,
    drop_modules_to_save: DropModules = False,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Find the best scale, method, weights and adapters, and merge. By labels, or without them (--by)."""
    from prefdelta.cli.tune import tune_command
    from prefdelta.recipe import settings_mapping

    if context.info_name == "search":
        terminal(stderr=True).print("prefdelta search is now called prefdelta tune; the old name will go.")
    tune_command(
        adapters,
        output,
        base=base,
        items=items or (),
        by=by,
        pairs=pairs,
        beta=beta,
        split=split,
        scorer=scorer,
        count=count,
        methods=methods,
        scales=scales,
        budget=budget,
        select=select == "greedy",
        leave_one_out=leave_one_out,
        tune_weights=tune_weights,
        corpus=corpus,
        seed=seed,
        drop_modules_to_save=drop_modules_to_save,
        overwrite=overwrite,
        settings=settings_mapping(settings or ()),
        console=terminal(),
    )
