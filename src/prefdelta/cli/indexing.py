"""What agentic search searches."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Output, Overwrite
from prefdelta.core.progress import terminal


@app.command(cls=Command)
def index(
    corpus: Annotated[str, typer.Argument(help="Passages: a JSONL file of documents, or micro:corpus.")],
    output: Output,
    encoder: Annotated[
        str | None, typer.Option(help="Index by this sentence-transformers model instead of by words.")
    ] = None,
    ann: Annotated[Literal["flat", "hnsw"], typer.Option(help="Exact (flat) or approximate (hnsw) vectors.")] = "flat",
    overwrite: Overwrite = False,
) -> None:
    """Index a search corpus once. Recipes name the folder as their corpus."""
    from prefdelta.experiments.single.index import index_unit
    from prefdelta.experiments.single.unit import run_single

    artifact = run_single(index_unit(corpus, encoder, ann), output, terminal(), overwrite=overwrite)
    terminal().print(f"index: {artifact.path}", highlight=False)
