"""The stages up to an adapter, and evaluation, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Output, Overwrite, Settings
from prefdelta.cli.units import single
from prefdelta.core.progress import terminal


@app.command(cls=Command)
def train(
    pairs: Annotated[Path, typer.Argument(help="Preference pairs (or triples, or demonstrations), a JSONL file.")],
    student: Annotated[str, typer.Option(help="Model id, folder or micro:NAME to train on.")],
    output: Output,
    adapter: Annotated[Path | None, typer.Option(help="An adapter to train further, instead of a fresh one.")] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Preference pairs to measure the adapter on; not trained on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the LoRA initialisation and of the data order.")] = 0,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Train one preference delta, a LoRA adapter, on pairs. By DPO, ORPO, WRPO or another objective."""
    from prefdelta.experiments.single.training import read_training, train_unit
    from prefdelta.experiments.single.unit import assist_single, assists

    unit = train_unit(pairs, student, adapter, held_out, seed, tuple(settings or ()))
    if assists():
        assist_single(unit, output)
    else:
        single(unit, output, overwrite)
        terminal().print(read_training(output))


@app.command(cls=Command)
def evaluate(
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME; with --server, its name there.")],
    items: Annotated[
        str,
        typer.Argument(
            help="Benchmark: a JSONL file of items, micro:TASK, lm_eval:TASK, benchmark:NAME or pairs:FILE."
        ),
    ],
    output: Output,
    adapter: Annotated[str | None, typer.Option(help="A LoRA adapter: its folder; with --server, its name.")] = None,
    scale: Annotated[float, typer.Option(help="λ: factor on the adapter's update.")] = 1.0,
    scorer: Annotated[
        str | None,
        typer.Option(help="exact-match, final-number, choice, token-f1 or another.", show_default="exact-match"),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="At most how many items.", show_default="all of a file, else 500")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampled decoding.")] = 0,
    corpus: Annotated[
        str | None, typer.Option(help="Search corpus: micro:corpus, a JSONL file, an index folder, a server's URL.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="How the model searches: plain, search_r1, pda or another.")] = "plain",
    retriever: Annotated[
        str | None,
        typer.Option(help="bm25, index, server or another.", show_default="by corpus"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A local copy of an lm_eval task's data.")] = None,
    server: Annotated[
        str | None, typer.Option(help="URL of a server that holds the model and its adapters, up to /v1.")
    ] = None,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Score a model, with or without an adapter, item by item."""
    from prefdelta.experiments.single.evaluation import evaluate_unit, read_score

    search = {"corpus": corpus, "protocol": protocol, "retriever": retriever} if corpus else None
    benchmark = {"items": items, "scorer": scorer, "count": count, "data": data}
    unit = evaluate_unit(model, server, benchmark, adapter, scale, seed, search, tuple(settings or ()))
    single(unit, output, overwrite)
    terminal().print(read_score(output))
