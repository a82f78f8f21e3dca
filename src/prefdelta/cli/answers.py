"""Answers and preferences: what is searched, sampling, scoring, pairing, and moving pairs to and from other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Output, Overwrite, Settings
from prefdelta.cli.units import single
from prefdelta.core.progress import terminal

PROMPTS = "Prompts: a JSONL file of items, or what recipes read (--set prompts.format=…)."


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

    single(index_unit(corpus, encoder, ann), output, overwrite)


@app.command(cls=Command)
def sample(
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME; with --server, the server's name.")],
    prompts: Annotated[str, typer.Argument(help=PROMPTS)],
    output: Output,
    corpus: Annotated[
        str | None, typer.Option(help="Search corpus: micro:corpus, a JSONL file, an index folder, a server's URL.")
    ] = None,
    server: Annotated[str | None, typer.Option(help="An OpenAI-compatible URL, as http://localhost:8000/v1.")] = None,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Let a model answer prompts, and write responses.jsonl."""
    from prefdelta.experiments.single.answers import read_sampled, sample_unit

    single(sample_unit(model, prompts, corpus, server, tuple(settings or ())), output, overwrite)
    terminal().print(read_sampled(output))


@app.command(cls=Command)
def score(
    prompts: Annotated[str, typer.Argument(help=PROMPTS)],
    responses: Annotated[Path, typer.Argument(help="A model's responses.jsonl, or a published file of answers.")],
    output: Output,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Score answers by a reward model or by rule. --set model=ID or --set scorer=NAME; writes scores.jsonl."""
    from prefdelta.experiments.single.answers import score_unit

    single(score_unit(prompts, responses, tuple(settings or ())), output, overwrite)


@app.command(cls=Command)
def pair(
    prompts: Annotated[str, typer.Argument(help=PROMPTS)],
    chosen: Annotated[Path, typer.Argument(help="The weak model's responses.jsonl.")],
    rejected: Annotated[Path, typer.Argument(help="The weaker model's responses.jsonl.")],
    output: Output,
    chosen_scores: Annotated[Path | None, typer.Option(help="Scores of the weak model's answers.")] = None,
    rejected_scores: Annotated[Path | None, typer.Option(help="Scores of the weaker model's answers.")] = None,
    student: Annotated[str | None, typer.Option(help="Whose tokens --set identical_within=N counts.")] = None,
    overwrite: Overwrite = False,
    settings: Settings = None,
) -> None:
    """Turn two models' answers into preference pairs. Writes pairs.jsonl and its data card."""
    from prefdelta.experiments.preference_pairs import PairFiles
    from prefdelta.experiments.single.preference_pairs import pair_unit, read_paired

    files = PairFiles(chosen, rejected, chosen_scores, rejected_scores)
    single(pair_unit(prompts, files, student, tuple(settings or ())), output, overwrite)
    terminal().print(read_paired(output))


@app.command(name="import", cls=Command)
def import_(
    source: Annotated[Path, typer.Argument(help="A .jsonl, .json (or .gz) or .parquet file, or a folder of datasets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pairs file to write, as pairs.jsonl.")],
    format: Annotated[
        str,
        typer.Option(
            help="What the file holds: trl (also hh-rlhf), llamafactory, ultrafeedback, pandalm, llmbar, auto-j, "
            "alpaca-eval-judgements."
        ),
    ] = "trl",
    split: Annotated[str | None, typer.Option(help="Of a folder with several splits, the one to read.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert other tools' preference pairs into a pairs file."""
    from prefdelta.pairs.exchange import import_pairs

    told = import_pairs(source, output, format=format, split=split, overwrite=overwrite)
    terminal().print(f"{output}: {told}")


@app.command(cls=Command)
def export(
    pairs: Annotated[Path, typer.Argument(help="Preference pairs, a pairs.jsonl.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .jsonl or .parquet file, or a folder to write.")],
    form: Annotated[
        Literal["conversational", "standard"],
        typer.Option("--format", help="TRL's rows of messages, or of plain text."),
    ] = "conversational",
    overwrite: Overwrite = False,
) -> None:
    """Write pairs as TRL's columns: prompt, chosen, rejected."""
    from prefdelta.pairs.exchange import export_pairs

    told = export_pairs(pairs, output, form=form, overwrite=overwrite)
    terminal().print(f"{output}: {told}")
