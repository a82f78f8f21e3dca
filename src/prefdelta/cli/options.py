"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output of an earlier command.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="Type of the stored weights; auto keeps the inputs'."),
]
DropModules = Annotated[
    bool, typer.Option("--drop-modules-to-save", help="Leave out task heads stored beside the LoRA.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated. Keys: below."),
]
Cache = Annotated[
    Path | None, typer.Option(help="Where copies of runs on an object store are kept [~/.cache/prefdelta/runs].")
]
