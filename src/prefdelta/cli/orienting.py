"""Finding one's way: what this machine has, and which merge method to choose."""

from __future__ import annotations

from typing import Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.core.progress import terminal


@app.command(cls=Command)
def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the Hugging Face Hub can be reached.")] = False,
    server: Annotated[
        list[str] | None, typer.Option(help="Also ask this OpenAI-compatible URL, up to /v1; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for each question over the network.")] = 5.0,
) -> None:
    """Tell what is installed, which extras are missing, which devices there are, and what can be reached."""
    from prefdelta.cli.doctor import diagnose

    if not diagnose(terminal(), hub=hub, servers=server or [], timeout=timeout):
        raise typer.Exit(1)


@app.command("methods", cls=Command)
def list_methods(
    name: Annotated[str | None, typer.Argument(help="A method to tell in full, with its dense code.")] = None,
) -> None:
    """Tell which merge method to choose and list all, or tell one in full."""
    from prefdelta.cli.methods import print_method, print_methods

    if name is None:
        print_methods(terminal())
    else:
        print_method(name, terminal())
