"""Other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Output, Overwrite
from prefdelta.core.progress import terminal


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
