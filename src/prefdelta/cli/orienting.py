"""Finding one's way: what this machine has, and which merge method to choose."""

from __future__ import annotations

from typing import Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.core.progress import terminal


@app.command(cls=Command)
def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also try the Hugging Face Hub.")] = False,
    server: Annotated[
        list[str] | None, typer.Option(help="Also try this OpenAI-compatible URL, up to /v1; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each of them.")] = 5.0,
) -> None:
    """Show what is installed or missing, and which devices there are. --hub and --server try connections."""
    from prefdelta.cli.doctor import diagnose

    if not diagnose(terminal(), hub=hub, servers=server or [], timeout=timeout):
        raise typer.Exit(1)


@app.command("methods", cls=Command)
def list_methods(
    name: Annotated[
        str | None, typer.Argument(help="A method to show in full: equation as code, options, when to use it.")
    ] = None,
) -> None:
    """Show which merge method to choose, all of them, or one in full."""
    from prefdelta.cli.methods import method_text, print_methods

    if name is None:
        print_methods(terminal())
    else:
        terminal().print(method_text(name))
