"""Which of two runs is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prefdelta.cli.app import app


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="A records.jsonl, its folder, or a finished run.")],
    run_b: Annotated[Path, typer.Argument(help="The run to hold against it; differences are RUN_B minus RUN_A.")],
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
) -> None:
    """Say which of two runs on the same items is better, and whether that could be chance."""
    import prefdelta.comparing as comparing
    from prefdelta.store import write_json

    found = comparing.compare(*comparing.read_runs(run_a, run_b))
    if json:
        write_json(json, comparing.as_json(found))
    comparing.print_comparison(found, Console())
