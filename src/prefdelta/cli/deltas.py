"""The stages up to an adapter, and evaluation, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prefdelta.cli.app import app
from prefdelta.cli.options import Output, Settings

if TYPE_CHECKING:
    from prefdelta.pipeline.unit import Unit


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME.")],
    prompts: Annotated[Path, typer.Argument(help="Prompts, a JSONL file of items.")],
    output: Output,
    corpus: Annotated[str | None, typer.Option(help="Search corpus: micro:corpus or a JSONL file.")] = None,
    settings: Settings = None,
) -> None:
    """Let one model answer prompts, and write responses.jsonl."""
    from prefdelta.pipeline.single import sample_unit

    _single(sample_unit(model, prompts, corpus, tuple(settings or ())), output)


@app.command()
def pair(
    prompts: Annotated[Path, typer.Argument(help="Prompts, a JSONL file of items.")],
    chosen: Annotated[Path, typer.Argument(help="The weak model's responses.jsonl.")],
    rejected: Annotated[Path, typer.Argument(help="The weaker model's responses.jsonl.")],
    output: Output,
    settings: Settings = None,
) -> None:
    """Turn two models' answers into preference pairs, and write pairs.jsonl with its data card."""
    from prefdelta.pipeline.single import pair_unit

    _single(pair_unit(prompts, chosen, rejected, tuple(settings or ())), output)


@app.command()
def train(
    pairs: Annotated[Path, typer.Argument(help="Preference pairs, a pairs.jsonl.")],
    student: Annotated[str, typer.Option(help="Model id, folder or micro:NAME to train on.")],
    output: Output,
    seed: Annotated[int, typer.Option(help="Seed of the LoRA initialisation and of the data order.")] = 0,
    settings: Settings = None,
) -> None:
    """Train one preference delta: a LoRA adapter, by DPO or ORPO."""
    from prefdelta.pipeline.single import train_unit

    _single(train_unit(pairs, student, seed, tuple(settings or ())), output)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME.")],
    items: Annotated[str, typer.Argument(help="Benchmark: a JSONL file of items with answers, or micro:TASK.")],
    output: Output,
    adapter: Annotated[Path | None, typer.Option(help="A LoRA adapter to put on the model.")] = None,
    scale: Annotated[float, typer.Option(help="λ: factor on the adapter's update.")] = 1.0,
    scorer: Annotated[str, typer.Option(help="exact-match, final-number, choice or token-f1.")] = "exact-match",
    count: Annotated[int, typer.Option(help="How many items.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sampled decoding.")] = 0,
    corpus: Annotated[str | None, typer.Option(help="Search corpus: micro:corpus or a JSONL file.")] = None,
    settings: Settings = None,
) -> None:
    """Score a model, with or without an adapter, and write one record per item."""
    from prefdelta.pipeline.single import evaluate_unit, read_score

    unit = evaluate_unit(model, items, adapter, scale, scorer, count, seed, corpus, tuple(settings or ()))
    _single(unit, output)
    Console().print(read_score(output), highlight=False)


def _single(unit: Unit, output: Path) -> None:
    from prefdelta.pipeline.single import run_single

    artifact = run_single(unit, output, Console())
    Console().print(f"{unit.stage}: {artifact.path}", highlight=False)
