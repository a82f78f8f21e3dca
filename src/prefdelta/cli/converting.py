"""Other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prefdelta.cli.app import app
from prefdelta.cli.options import Output


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with a llama2.c .bin checkpoint and tokenizer.")],
    output: Output,
) -> None:
    """Turn a llama2.c checkpoint into a Hugging Face model folder."""
    from prefdelta.llama2c import convert_llama2c

    convert_llama2c(checkpoint, output)
    Console().print(f"model: {output}")
