"""What each stage does with its artifacts: the glue between files and the packages that do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdelta import micro
from prefdelta.adapter import MemoryAdapter
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.benchmarks import Split, evaluation_texts, prepare
from prefdelta.evaluation.evaluator import Evaluator
from prefdelta.evaluation.served import ServedBackend
from prefdelta.llama2c import convert_llama2c
from prefdelta.models import load_tokenizer
from prefdelta.pairs.candidates import with_scores
from prefdelta.pairs.card import data_card, preferred_by
from prefdelta.pairs.pairing import finish_pairs
from prefdelta.pairs.rules import by_order, by_score
from prefdelta.pipeline.unit import Workbench
from prefdelta.recipe import (
    AnySource,
    Benchmark,
    Filters,
    Imported,
    ModelRef,
    Pairing,
    Prompts,
    Questions,
    Sampling,
    Scoring,
    Search,
    Server,
    Training,
)
from prefdelta.records import Example, Item, Sample, Score, read_rows, write_rows
from prefdelta.sampling.backends import opened_sampler
from prefdelta.sampling.prompts import draw_prompts
from prefdelta.sampling.responses import import_responses, sample_responses
from prefdelta.scoring.programmatic import ProgrammaticScorer
from prefdelta.scoring.reward import RewardScorer, load_reward
from prefdelta.scoring.scores import SCORE_ROWS, import_scores, score_responses
from prefdelta.search import PROTOCOLS
from prefdelta.store import Artifact, write_json
from prefdelta.training import train_delta

PROMPTS = "prompts.jsonl"
RESPONSES = "responses.jsonl"
PAIRS = "pairs.jsonl"
RECORDS = "records.jsonl"

Inputs = Mapping[str, Artifact]


def convert_student(work: Path, student: ModelRef) -> None:
    """Another format's checkpoint -> a Hugging Face model folder."""
    convert_llama2c(Path(student.path), work / "model")


def write_prompts(work: Path, prompts: Prompts, search: Search | None) -> None:
    """Questions -> ``prompts.jsonl``, asked as the search protocol has it."""
    drawn = draw_prompts(prompts)
    write_rows(work / PROMPTS, [PROTOCOLS[search.protocol].dressed(item) for item in drawn] if search else drawn)


def as_asked(prompts: Questions, search: Search | None) -> Questions:
    """How the questions of ``prompts.jsonl`` are dressed: with the recipe's template, and the protocol's around it."""
    if search is None:
        return prompts
    template = PROTOCOLS[search.protocol].prompt.replace("{question}", prompts.template)
    return prompts.model_copy(update={"template": template})


def write_responses(
    work: Path, prompts: Path, bench: Workbench, source: AnySource, sampling: Sampling, search: Search | None
) -> None:
    """Prompts, and a model, a server or a file of answers -> ``responses.jsonl``, in the order of the prompts."""
    items = read_rows(prompts, Item)
    if isinstance(source, Imported):
        write_rows(work / RESPONSES, import_responses(source, items))
        return
    environment = bench.environment(search)
    with opened_sampler(source, sampling, environment, load=bench.model, release=bench.release) as sampler:
        sample_responses(items, sampler, work, sampling.seed, sampling.n, bench.progress)


def write_scores(work: Path, prompts: Path, responses: Path, bench: Workbench, scoring: Scoring, source: str) -> None:
    """Prompts and answers -> ``scores.jsonl``, in the order of the answers.

    Args:
        work: the working folder.
        prompts: the questions.
        responses: the answers.
        bench: holds one model at a time.
        scoring: who or what scores.
        source: the name of the model that answered, for a file of scores.
    """
    samples = read_rows(responses, Sample)
    if scoring.path is not None:
        write_rows(work / SCORE_ROWS, import_scores(Path(scoring.path.replace("{source}", source)), samples))
        return
    items = read_rows(prompts, Item)
    if scoring.scorer is not None:
        score_responses(items, samples, ProgrammaticScorer(scoring.scorer), work, bench.progress)
        return
    assert scoring.model is not None
    bench.release()
    scorer = RewardScorer(
        load_reward(scoring.model), batch_size=scoring.batch_size, max_length=scoring.max_length, label=scoring.label
    )
    score_responses(items, samples, scorer, work, bench.progress)


@dataclass(frozen=True)
class PairFiles:
    """What pairs are made of: prompts, and answers of the weak and of the weaker model, with scores where needed."""

    prompts: Path
    chosen: Path
    rejected: Path
    chosen_scores: Path | None = None
    rejected_scores: Path | None = None


def write_pairs(
    work: Path,
    files: PairFiles,
    pairing: Pairing,
    filters: Filters,
    about: Mapping[str, Any],
    *,
    questions: Questions | None = None,
    benchmarks: Sequence[Benchmark] = (),
    student: ModelRef | None = None,
) -> None:
    """Prompts and two files of answers to them -> ``pairs.jsonl`` and its data card.

    Args:
        work: the working folder.
        files: prompts, answers, scores.
        pairing: which answers make a pair.
        filters: which pairs are dropped.
        about: where they come from, for the card.
        questions: how the prompts were dressed.
        benchmarks: the evaluation sets, for decontamination.
        student: whose tokenizer counts tokens.
    """
    items = read_rows(files.prompts, Item)
    chosen, rejected = read_rows(files.chosen, Sample), read_rows(files.rejected, Sample)
    if pairing.needs_scores:
        if files.chosen_scores is None or files.rejected_scores is None:
            raise PrefdeltaError(f"the pairing rule {pairing.rule!r} needs scores of all answers; give them.")
        pools = [
            with_scores("weak", chosen, read_rows(files.chosen_scores, Score)),
            with_scores("weaker", rejected, read_rows(files.rejected_scores, Score)),
        ]
        proposal = by_score(items, pools, pairing)
    else:
        proposal = by_order(items, chosen, rejected)
    pairs, counts = finish_pairs(
        items,
        proposal,
        filters,
        questions=questions,
        evaluated=evaluation_texts(benchmarks) if filters.decontaminate else None,
        tokenizer=load_tokenizer(student) if filters.identical_within and student else None,
    )
    write_rows(work / PAIRS, pairs)
    write_json(work / "counts.json", counts)
    card = data_card(pairs, counts, about, preferred=preferred_by(pairing))
    (work / "README.md").write_text(card, encoding="utf-8")


def train(
    work: Path,
    examples: Sequence[Example],
    bench: Workbench,
    student: ModelRef,
    training: Training,
    *,
    seed: int,
    init_seed: int,
    adapter: Path | None = None,
    cache: Path | None = None,
) -> None:
    """Pairs, triples or demonstrations -> a LoRA adapter, fresh or trained further."""
    bench.release()
    train_delta(
        student,
        examples,
        training,
        seed=seed,
        init_seed=init_seed,
        folder=work,
        adapter=adapter,
        cache=cache,
        progress=bench.progress,
    )


def evaluate(
    folder: Path,
    bench: Workbench,
    model: ModelRef | Server,
    adapter: Path | MemoryAdapter | str | None,
    scale: float,
    benchmarks: Sequence[Benchmark],
    sampling: Sampling,
    search: Search | None,
    split: Split,
    seed: int,
) -> None:
    """A model, here or served, on benchmarks -> ``records.jsonl``; left alone if it is there already."""
    if (folder / RECORDS).is_file():
        return
    folder.mkdir(exist_ok=True)
    prepared = {benchmark.name: prepare(benchmark, split, sampling) for benchmark in benchmarks}
    asked = {name: side for name, side in prepared.items() if side.items}
    embedded = all(benchmark.questions.source.startswith("micro:") for benchmark in benchmarks)
    answering = ServedBackend(model) if isinstance(model, Server) else bench.model(model)
    Evaluator(answering, behaviours=micro.behaviours if embedded else None).evaluate_to_folder(
        folder,
        adapter,
        scale,
        {name: side.items for name, side in asked.items()},
        {name: side.scorer for name, side in asked.items()},
        {name: side.sampling or sampling for name, side in asked.items()},
        bench.environment(search),
        seed=seed,
        progress=bench.progress,
    )
