"""Commands for people who have adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from prefdelta.cli.app import app
from prefdelta.cli.options import DropModules, Dtype, Output, Overwrite, Settings


@app.command()
def merge(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    output: Output,
    method: Annotated[str, typer.Option(help="How to merge; `prefdelta methods` lists all.")] = "average",
    scale: Annotated[str, typer.Option(help="λ, a factor on the merged update; or norm-matched, or projection.")] = "1",
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
    """Merge LoRA adapters into one LoRA adapter, exactly, without loading the base model."""
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
        "console": Console(),
    }
    if into is None:
        from prefdelta.merging.command import merge_command

        merge_command(adapters, output, **arguments)
    else:
        from prefdelta.apply.command import merge_into_command

        merge_into_command(into, adapters, output, **arguments)


@app.command()
def inspect(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with heat maps to this file.")] = None,
) -> None:
    """Tell what adapters are to one another, and what each merge method would do to them."""
    from prefdelta.inspection import inspect_adapters, print_inspection, write_inspection_page
    from prefdelta.pipeline.display import Display
    from prefdelta.store import replace_text

    console = Console()
    with Display(console) as display:
        display.start("inspect")
        found = inspect_adapters(adapters, progress=display.inner)
    print_inspection(found, console)
    if json:
        replace_text(json, found.model_dump_json(indent=1) + "\n")
    if html:
        write_inspection_page(found, html)


@app.command()
def apply(
    base: Annotated[Path, typer.Argument(help="The base model's folder.")],
    adapter: Annotated[Path, typer.Argument(help="A PEFT LoRA adapter folder.")],
    output: Output,
    scale: Annotated[float, typer.Option(help="λ: factor on the adapter's update.")] = 1.0,
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Bake an adapter into its base model, and tell how much of it rounding took away."""
    from prefdelta.apply import apply_adapter, print_apply
    from prefdelta.pipeline.display import Display

    console = Console()
    with Display(console) as display:
        display.start(output.name)
        report = apply_adapter(
            base, adapter, output, scale=scale, dtype=dtype, overwrite=overwrite, progress=display.inner
        )
    print_apply(report, output, console)


@app.command()
def search(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    base: Annotated[str, typer.Option(help="Model id, folder or micro:NAME that the adapters belong to.")],
    items: Annotated[list[str], typer.Option(help="Benchmark: a JSONL file or micro:TASK; may be repeated.")],
    output: Output,
    split: Annotated[
        Literal["validation", "all"], typer.Option(help="Items to choose by: the validation part, or all of a file.")
    ] = "validation",
    scorer: Annotated[str, typer.Option(help="exact-match, final-number, choice or token-f1.")] = "exact-match",
    count: Annotated[int, typer.Option(help="At most how many items of each benchmark.")] = 200,
    methods: Annotated[str, typer.Option(help="Merge methods to try, comma separated.")] = "average,gam",
    scales: Annotated[
        str, typer.Option(help="λ to try: numbers above 0, norm-matched, projection.")
    ] = "0.5,1,1.5,2,3,4,6,8",
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
    """Find the scale, method, weights and adapters that answer validation items best, and merge them."""
    from prefdelta.choosing import search_command
    from prefdelta.recipe import settings_mapping

    search_command(
        adapters,
        output,
        base=base,
        items=items,
        split=split,
        scorer=scorer,
        count=count,
        methods=methods,
        scales=scales,
        select=select == "greedy",
        leave_one_out=leave_one_out,
        tune_weights=tune_weights,
        corpus=corpus,
        seed=seed,
        drop_modules_to_save=drop_modules_to_save,
        overwrite=overwrite,
        settings=settings_mapping(settings or ()),
        console=Console(),
    )


@app.command("methods")
def list_methods() -> None:
    """List the merge methods."""
    from prefdelta.merging.registry import METHODS

    table = Table("method", "what it does", "source")
    for entry in METHODS.values():
        table.add_row(entry.name, entry.summary, entry.paper)
    Console().print(table)
