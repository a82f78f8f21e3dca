"""Whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prefdelta.cli.app import app
from prefdelta.cli.options import Output, Settings


@app.command()
def demo(
    output: Output = Path("runs/demo"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Run the whole way on the tiny embedded models: minutes on a laptop, no GPU, no downloads."""
    _run(Path(__file__).parents[1] / "micro" / "demo.yaml", output, (), dry_run, workers=1)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder [runs/NAME].")] = None,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the work, each on its own GPU where there are any.")
    ] = 1,
) -> None:
    """Run a recipe from prompts to report; run it again to continue after an interruption."""
    _run(recipe, output, tuple(settings or ()), dry_run, workers)


def _run(recipe_file: Path, output: Path | None, settings: tuple[str, ...], dry_run: bool, workers: int) -> None:
    from prefdelta.pipeline.kinds import plan_for
    from prefdelta.pipeline.run import run_recipe
    from prefdelta.recipe import load_recipe

    recipe = load_recipe(recipe_file, settings)
    root = output or Path("runs") / recipe.name
    console = Console()
    if dry_run:
        console.print(plan_for(recipe, root).table())
        return
    report = run_recipe(recipe, root, console=console, workers=workers)
    console.print(f"report: {report}\nresults: {report.with_name('results.json')}")


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(help="A finished run folder.")]) -> None:
    """Write results.json and report.html of a finished run again."""
    from prefdelta.pipeline.run import publish_again

    Console().print(f"report: {publish_again(run_folder)}")
