"""The stages up to an adapter, and evaluation, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prefdelta.cli.app import app
from prefdelta.cli.options import Output, Settings
from prefdelta.cli.units import single


@app.command()
def train(
    pairs: Annotated[Path, typer.Argument(help="Preference pairs (or triples, or demonstrations), a JSONL file.")],
    student: Annotated[str, typer.Option(help="Model id, folder or micro:NAME to train on.")],
    output: Output,
    adapter: Annotated[Path | None, typer.Option(help="An adapter to train further, instead of a fresh one.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the LoRA initialisation and of the data order.")] = 0,
    settings: Settings = None,
) -> None:
    """Train one preference delta: a LoRA adapter, by DPO, ORPO, WRPO or another objective."""
    from prefdelta.pipeline.single import assist_single, assists, train_unit

    unit = train_unit(pairs, student, adapter, seed, tuple(settings or ()))
    if assists():
        assist_single(unit, output)
    else:
        single(unit, output)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME; with --server, its name there.")],
    items: Annotated[
        str, typer.Argument(help="Benchmark: a JSONL file of items with answers, micro:TASK, or lm_eval:TASK.")
    ],
    output: Output,
    adapter: Annotated[str | None, typer.Option(help="A LoRA adapter: its folder; with --server, its name.")] = None,
    scale: Annotated[float, typer.Option(help="λ: factor on the adapter's update.")] = 1.0,
    scorer: Annotated[str, typer.Option(help="exact-match, final-number, choice or token-f1.")] = "exact-match",
    count: Annotated[int, typer.Option(help="How many items.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sampled decoding.")] = 0,
    corpus: Annotated[
        str | None, typer.Option(help="Search corpus: micro:corpus, a JSONL file, an index folder, a server's URL.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="How the model searches: plain, search_r1 or pda.")] = "plain",
    data: Annotated[str | None, typer.Option(help="A local copy of an lm_eval task's data.")] = None,
    server: Annotated[
        str | None, typer.Option(help="URL of a server that holds the model and its adapters, up to /v1.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Score a model, with or without an adapter, and write one record per item."""
    from prefdelta.pipeline.single import evaluate_unit, read_score

    search = {"corpus": corpus, "protocol": protocol} if corpus else None
    benchmark = {"items": items, "scorer": scorer, "count": count, "data": data}
    unit = evaluate_unit(model, server, benchmark, adapter, scale, seed, search, tuple(settings or ()))
    single(unit, output)
    Console().print(read_score(output), highlight=False)
