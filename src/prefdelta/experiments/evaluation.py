"""A model on benchmarks -> ``records.jsonl``, as a unit and as the work in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdelta import micro
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.model_files import fingerprint
from prefdelta.core.records import RECORDS, Record, read_rows, write_rows
from prefdelta.core.shard import WHOLE, Shard, group_count
from prefdelta.evaluation.backends import Backend
from prefdelta.evaluation.benchmarks import Split, benchmark_pairs, prepare
from prefdelta.evaluation.evaluator import GROUP_BATCHES, Evaluator
from prefdelta.evaluation.served import ServedBackend
from prefdelta.experiments.identity import benchmark_externals, file_externals
from prefdelta.experiments.load import Load
from prefdelta.experiments.unit import Division, Externals, Make, MakeShard, RunContext, Unit, Work
from prefdelta.recipe import Benchmark, ModelRef, Sampling, Search, Server

if TYPE_CHECKING:
    from prefdelta.adapters import LoraAdapter
    from prefdelta.core.models import LoadedModel

RECORD_BYTES = 1024
"""Roughly, of one record on disk."""
_ON_ENGINE = "adapter-on-engine"


def engine_config(model: ModelRef) -> dict[str, Any]:
    """What draws a model's answers, for a unit's key, where it is not transformers."""
    return {"engine": model.engine} if model.engine != "transformers" else {}


def evaluation_unit(
    name: str,
    stage: str,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    weights: Externals,
    benchmarks: Sequence[Benchmark],
    sampling: Sampling,
    search: Search | None,
    samples: int,
    make: Make,
    load: tuple[Load, ...] = (),
    division: Division | None = None,
) -> Unit:
    """A unit that evaluates on benchmarks.

    Args:
        name: where the artifact is.
        stage: the stage it belongs to.
        config: what else than benchmarks, sampling and search decides the answers.
        inputs: label -> artifact.
        weights: what the model contributes to the key, if it is no input.
        benchmarks: what is asked.
        sampling: how answers are drawn.
        search: what the model may search.
        samples: how many answers there will be.
        make: writes the records.
        load: what it asks of the model.
        division: how it is divided into shards, if it can be.
    """
    return Unit(
        name,
        stage,
        config={**config, "benchmarks": benchmarks, "sampling": sampling, "search": search},
        inputs=inputs,
        externals={
            **weights,
            **benchmark_externals(benchmarks),
            **(file_externals(search.corpus, "corpus") if search else {}),
        },
        make=make,
        work=Work(samples=samples, disk=samples * RECORD_BYTES, load=load),
        resumable=True,
        division=division,
    )


def division_of_records(
    model: ModelRef, asked: Sequence[tuple[Benchmark, int]], sampling: Sampling, make: MakeShard
) -> Division:
    """How a model's answers to ``(benchmark, items)`` s are divided; pairs, which are only read, are not."""
    answers = sum(items for benchmark, items in asked if benchmark.pairs is None)
    together = GROUP_BATCHES * sampling.batch_size if model.engine == "transformers" else 1
    return Division(group_count(answers, together), make)


@dataclass(frozen=True)
class Subject:
    """Who is evaluated: a model, bare or with an adapter.

    Attributes:
        model: the base, here or served.
        adapter: on the base, if there is one; the folder of one, one in memory, or a server's name for one.
        scale: λ.
    """

    model: ModelRef | Server
    adapter: Path | LoraAdapter | str | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Exam:
    """What is asked, and how.

    Attributes:
        benchmarks: that are asked.
        sampling: how answers are drawn.
        search: what may be searched.
        split: which side of the benchmarks.
        seed: of the random numbers.
    """

    benchmarks: Sequence[Benchmark]
    sampling: Sampling
    search: Search | None
    split: Split
    seed: int


def evaluate(
    folder: Path,
    context: RunContext,
    subject: Subject,
    exam: Exam,
    *,
    held_out: Mapping[str, Path] | None = None,
    cache: Path | None = None,
    rank: int = 0,
    shard: Shard = WHOLE,
) -> None:
    """A subject's exam -> ``records.jsonl``.

    Args:
        folder: where the records go, made if need be.
        context: holds the model.
        subject: who answers.
        exam: what.
        held_out: delta -> the file of the pairs that it holds out.
        cache: keeps the base's log-probabilities of pairs.
        rank: the largest of adapters still to come, so that an engine need not start again for them.
        shard: the part that is done: of the answers its share, and of pairs all or, but for the last, none.

    Raises:
        PrefdeltaError: an input cannot be read, or a server is asked about pairs.
    """
    folder.mkdir(exist_ok=True)
    answered = [benchmark for benchmark in exam.benchmarks if benchmark.pairs is None]
    compared = [benchmark for benchmark in exam.benchmarks if benchmark.pairs is not None] if shard.is_last else []
    if answered:
        _answer(folder, context, subject, replace(exam, benchmarks=answered), rank, shard)
    if compared:
        records = read_rows(folder / RECORDS, Record) if answered else []
        for benchmark in compared:
            records += _compare(context, subject, benchmark, exam.split, held_out or {}, cache)
        write_rows(folder / RECORDS, records)


def _compare(
    context: RunContext,
    subject: Subject,
    benchmark: Benchmark,
    split: Split,
    held_out: Mapping[str, Path],
    cache: Path | None,
) -> list[Record]:
    """The records of one benchmark of pairs."""
    settings, model, adapter = benchmark.pairs, subject.model, subject.adapter
    assert settings is not None
    if isinstance(model, Server) or isinstance(adapter, str):
        raise PrefdeltaError(
            f"benchmark {benchmark.name!r} is made of pairs, whose probabilities a server does not tell; "
            "evaluate it with the model's files."
        )
    file = expanded(settings.path) if settings.path else held_out[settings.held_out or ""]
    pairs = benchmark_pairs(benchmark, split, file)
    if not pairs:
        return []
    from prefdelta.evaluation.pair_margins import PairMargins, PairRows, pair_records  # here: it needs torch

    loaded = context.model(model)
    rows = PairRows.of(pairs, loaded, settings.max_length)
    measured = PairMargins(
        loaded,
        rows.rows,
        cache=cache,
        fingerprint=fingerprint(model) if cache is not None else "",
        progress=context.progress,
    )
    return pair_records(
        benchmark.name, rows, measured, adapter, subject.scale, beta=settings.beta, thinking=loaded.thinking
    )


def _answer(folder: Path, context: RunContext, subject: Subject, exam: Exam, rank: int, shard: Shard) -> None:
    """The records of benchmarks whose questions are answered -> ``records.jsonl``."""
    model, sampling = subject.model, exam.sampling
    prepared = {benchmark.name: prepare(benchmark, exam.split, sampling) for benchmark in exam.benchmarks}
    asked = {name: side for name, side in prepared.items() if side.items}
    embedded = all(benchmark.questions.source.startswith("micro:") for benchmark in exam.benchmarks)
    answering: LoadedModel | Backend
    if isinstance(model, Server):
        answering = ServedBackend(model)
    elif model.engine == "vllm":
        from prefdelta.adapters.writer import SERVABLE_RANKS, servable_rank  # here, as a server's need no torch
        from prefdelta.evaluation.engine import VllmBackend

        shutil.rmtree(folder / _ON_ENGINE, ignore_errors=True)  # left by a kill after the last answer
        most = servable_rank(min(rank, SERVABLE_RANKS[-1]))
        answering = VllmBackend(model, lambda own: context.engine(model, max(own, most)), folder / _ON_ENGINE)
    else:
        answering = context.model(model)
    Evaluator(answering, behaviours=micro.behaviours if embedded else None).evaluate_to_folder(
        folder,
        subject.adapter,
        subject.scale,
        {name: side.items for name, side in asked.items()},
        {name: side.scorer for name, side in asked.items()},
        {name: side.sampling or sampling for name, side in asked.items()},
        context.environment(exam.search),
        seed=exam.seed,
        progress=context.progress,
        shard=shard,
    )
