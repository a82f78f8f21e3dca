"""Merges whose coefficients are learned on data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prefdelta.cli.app import app
from prefdelta.cli.options import Output, Settings


@app.command()
def learn(
    adapters: Annotated[list[Path], typer.Argument(help="PEFT LoRA adapter folders.")],
    base: Annotated[str, typer.Option(help="Model id, folder or micro:NAME that the adapters belong to.")],
    output: Output,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(help="Held-out pairs (or answers, for objectives without labels): one file, or one per adapter."),
    ] = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option(help="Prompts that each adapter's own model answers, for objectives without labels."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="What is learned: tara-a, tara-b, ada-task, ada-module, gam-task, gam-module.")
    ] = "tara-b",
    seed: Annotated[int, typer.Option(help="Seed of the data order.")] = 0,
    settings: Settings = None,
) -> None:
    """Merge LoRA adapters with weights learned on held-out pairs; run it again to continue after an interruption."""
    from prefdelta.learning.command import print_learning
    from prefdelta.pipeline.single import learn_unit, run_single

    unit = learn_unit(adapters, base, method, pairs or (), prompts or (), seed, tuple(settings or ()))
    console = Console()
    artifact = run_single(unit, output, console)
    print_learning(artifact.path, console)
