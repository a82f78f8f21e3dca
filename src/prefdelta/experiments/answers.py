"""The units that every kind of run begins with: the questions, a model's answers to them, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefdelta.agent import protocol_of
from prefdelta.core.records import Item, Sample, read_rows, write_rows
from prefdelta.core.shard import WHOLE, Shard, group_count
from prefdelta.experiments.identity import (
    corpus_externals,
    file_externals,
    scoring_externals,
    source_config,
    source_externals,
)
from prefdelta.experiments.load import Passed, Sampled, Text, text_of
from prefdelta.experiments.unit import Division, Inputs, MakeShard, RunContext, Unit, Work
from prefdelta.generation.backends import opened_sampler
from prefdelta.generation.prompts import draw_prompts
from prefdelta.generation.request import GROUP_BATCHES
from prefdelta.generation.responses import RESPONSES, import_responses, sample_responses
from prefdelta.pairs.scoring.programmatic import ProgrammaticScorer
from prefdelta.pairs.scoring.scores import REWARD_BATCHES, SCORE_ROWS, import_scores, score_responses
from prefdelta.recipe import AnySource, Imported, ModelRef, Prompts, Questions, Sampling, Scoring, Search

PROMPTS = "prompts.jsonl"
ANSWER_BYTES = 2048
"""Roughly, of one answer on disk."""


def prompts_unit(name: str, prompts: Prompts, search: Search | None) -> Unit:
    """Questions -> ``prompts.jsonl``, asked as the search protocol has it."""

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        drawn = draw_prompts(prompts)
        write_rows(work / PROMPTS, [protocol_of(search.protocol).dressed(item) for item in drawn] if search else drawn)

    return Unit(
        name,
        "prompts",
        config={"prompts": prompts, "protocol": search.protocol if search else None},
        inputs={},
        externals=file_externals(prompts.source),
        make=make,
    )


def as_asked(prompts: Questions, search: Search | None) -> Questions:
    """How the questions of ``prompts.jsonl`` are dressed: with the recipe's template, and the protocol's around it."""
    if search is None:
        return prompts
    template = protocol_of(search.protocol).prompt.replace("{question}", prompts.template)
    return prompts.model_copy(update={"template": template})


def responses_unit(
    name: str,
    source: AnySource,
    sampling: Sampling,
    search: Search | None,
    *,
    questions: Prompts,
    prompts: str,
) -> Unit:
    """The answers of a model, a server or a file to ``questions``, which are the artifact ``prompts``."""
    imported = isinstance(source, Imported)
    drawn = {} if imported else {"sampling": sampling, "search": search}
    corpus = {} if imported else corpus_externals(search)

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        items = read_rows(inputs["prompts"].path / PROMPTS, Item)
        write_responses(work, items, context, source, sampling, search, shard)

    return Unit(
        name,
        "responses",
        config={"source": source_config(source), **drawn},
        inputs={"prompts": prompts},
        externals={**source_externals(source), **corpus},
        make=make,
        work=answered(source, questions.count, questions, sampling, search),
        resumable=True,
        division=division_of_answers(source, questions.count, sampling, make) if isinstance(source, ModelRef) else None,
    )


def division_of_answers(model: ModelRef, count: int, sampling: Sampling, make: MakeShard) -> Division:
    """How the answers of a model to ``count`` questions are divided."""
    together = GROUP_BATCHES * sampling.batch_size if model.engine == "transformers" else 1
    return Division(group_count(count * sampling.n, together), make)


def answered(source: AnySource, count: int, questions: Questions, sampling: Sampling, search: Search | None) -> Work:
    """The size of the answers of a source to ``count`` of the questions."""
    answers = count * sampling.n
    text = text_of(questions, sampling, search)
    return Work(
        samples=0 if isinstance(source, Imported) else answers,
        disk=answers * ANSWER_BYTES,
        load=(Sampled(source, answers, text, sampling.batch_size),) if isinstance(source, ModelRef) else (),
    )


def write_responses(
    work: Path,
    items: Sequence[Item],
    context: RunContext,
    source: AnySource,
    sampling: Sampling,
    search: Search | None,
    shard: Shard = WHOLE,
) -> None:
    """Prompts, and a model, a server or a file of answers -> ``responses.jsonl``, in the order of the prompts."""
    if isinstance(source, Imported):
        write_rows(work / RESPONSES, import_responses(source, items))
        return
    environment = context.environment(search)
    with opened_sampler(
        source, sampling, environment, folder=work, load=context.model, release=context.release
    ) as sampler:
        sample_responses(items, sampler, work, sampling.seed, sampling.n, context.progress, shard)


def scores_unit(
    name: str, scoring: Scoring, label: str, *, prompts: str, responses: str, count: int, text: Text
) -> Unit:
    """The scores of the ``count`` answers of the artifact ``responses``; ``label`` names who gave them.

    ``text`` tells how long the answers may be.
    """
    reward = None if scoring.model is None else Passed(scoring.model, count, text, scoring.max_length, 1)

    def make(work: Path, inputs: Inputs, context: RunContext, shard: Shard = WHOLE) -> None:
        items = read_rows(inputs["prompts"].path / PROMPTS, Item)
        samples = read_rows(inputs["responses"].path / RESPONSES, Sample)
        write_scores(work, items, samples, context, scoring, label, shard)

    division = Division(group_count(count, REWARD_BATCHES * scoring.batch_size), make)
    return Unit(
        name,
        "scores",
        config={"scoring": scoring, "label": label},
        inputs={"prompts": prompts, "responses": responses},
        externals=scoring_externals(scoring, label),
        make=make,
        reads=() if scoring.path is None else (scoring.path.replace("{source}", label),),
        work=Work(scores=count, disk=count * 64, load=() if reward is None else (reward,)),
        resumable=True,
        division=division if reward is not None else None,
    )


def write_scores(
    work: Path,
    items: Sequence[Item],
    samples: Sequence[Sample],
    context: RunContext,
    scoring: Scoring,
    source: str,
    shard: Shard = WHOLE,
) -> None:
    """Prompts and answers -> ``scores.jsonl``, in the order of the answers.

    Args:
        work: the working folder.
        items: the questions.
        samples: the answers.
        context: holds one model at a time.
        scoring: who or what scores.
        source: the name of the model that answered, for a file of scores.
        shard: the part of the answers that a reward model scores.
    """
    if scoring.path is not None:
        write_rows(work / SCORE_ROWS, import_scores(Path(scoring.path.replace("{source}", source)), samples))
        return
    if scoring.scorer is not None:
        score_responses(items, samples, ProgrammaticScorer(scoring.scorer), work, context.progress)
        return
    assert scoring.model is not None
    from prefdelta.pairs.scoring.reward import RewardScorer, load_reward  # here, as the others need no torch

    context.release()
    scorer = RewardScorer(
        load_reward(scoring.model), batch_size=scoring.batch_size, max_length=scoring.max_length, label=scoring.label
    )
    score_responses(items, samples, scorer, work, context.progress, shard)
