"""Letting a judge compare or grade answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prefdelta.cli.app import app
from prefdelta.cli.help import Command
from prefdelta.cli.options import Output, Overwrite

judge = typer.Typer(help="Let a judge model compare or grade answers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(judge, name="judge")

AnswersFile = Annotated[
    Path, typer.Argument(help="The model's answers: a file, or a folder that answer, evaluate or sample wrote.")
]
Baseline = Annotated[Path, typer.Argument(help="The baseline's answers to the same questions.")]
Questions = Annotated[Path, typer.Option(help="The questions, JSON Lines.")]
Where = Annotated[str, typer.Option("--judge", help="A URL such as http://localhost:8000/v1, or a local model.")]
Name = Annotated[str | None, typer.Option("--judge-model", help="The judge's name at the URL.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at a time.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds after which a try is given up.")]
Prompt = Annotated[Path | None, typer.Option(help="Your own prompt in place of ours.")]


@judge.command()
def alpaca(
    answers: AnswersFile,
    baseline: Baseline,
    where: Where,
    output: Output,
    name: Name = None,
    prompt: Prompt = None,
    gamed: Annotated[
        str | None,
        typer.Option(help="AlpacaEval's df_gamed.csv, or hub to fetch it; for its own judge and baseline only."),
    ] = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 300,
    overwrite: Overwrite = False,
) -> None:
    """AlpacaEval 2: weighted preferences, raw and length-controlled win rate."""
    from prefdelta.cli.judge import JudgeOptions, judge_alpaca

    judge_alpaca(answers, baseline, output, JudgeOptions(where, name, concurrency, timeout), prompt, gamed, overwrite)


@judge.command()
def arena(
    answers: AnswersFile,
    baseline: Baseline,
    questions: Questions,
    where: Where,
    output: Output,
    name: Name = None,
    prompt: Prompt = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 300,
    overwrite: Overwrite = False,
) -> None:
    """Arena-Hard: verdicts in both orders, Bradley-Terry scores with style control."""
    from prefdelta.cli.judge import JudgeOptions, judge_by_label

    who = JudgeOptions(where, name, concurrency, timeout)
    judge_by_label("arena", answers, baseline, questions, output, who, prompt, overwrite)


@judge.command()
def mtbench(
    answers: AnswersFile,
    questions: Questions,
    prompts: Annotated[Path, typer.Option(help="FastChat's judge_prompts.jsonl.")],
    where: Where,
    output: Output,
    references: Annotated[Path | None, typer.Option(help="FastChat's reference answers.")] = None,
    name: Name = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 300,
    overwrite: Overwrite = False,
) -> None:
    """MT-Bench: two turns, each graded from 1 to 10."""
    from prefdelta.cli.judge import JudgeOptions, judge_mtbench

    judge_mtbench(
        answers, questions, prompts, references, output, JudgeOptions(where, name, concurrency, timeout), overwrite
    )


@judge.command()
def pairwise(
    answers: AnswersFile,
    opponent: Annotated[Path, typer.Argument(help="The other model's answers.")],
    questions: Questions,
    where: Where,
    output: Output,
    name: Name = None,
    prompt: Prompt = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 300,
    overwrite: Overwrite = False,
) -> None:
    """Any two models' answers against each other, in both orders."""
    from prefdelta.cli.judge import JudgeOptions, judge_by_label

    who = JudgeOptions(where, name, concurrency, timeout)
    judge_by_label("pairwise", answers, opponent, questions, output, who, prompt, overwrite)


@app.command(cls=Command)
def answer(
    questions: Annotated[Path, typer.Argument(help="Questions of MT-Bench, Arena-Hard or AlpacaEval, or items.")],
    model: Annotated[str, typer.Argument(help="Model id, folder or micro:NAME; with --server, the server's name.")],
    output: Output,
    adapter: Annotated[Path | None, typer.Option(help="An adapter to put on the model.")] = None,
    server: Annotated[str | None, typer.Option(help="An OpenAI-compatible URL, as http://localhost:8000/v1.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of one turn.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Let a model answer a judge's questions, and write answers.jsonl."""
    from prefdelta.cli.units import single
    from prefdelta.experiments.single.answers import answer_unit

    single(answer_unit(questions, model, server, adapter, max_new_tokens, seed), output, overwrite)
