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
from prefdelta.experiments.identity import benchmark_externals, corpus_externals
from prefdelta.experiments.load import evaluated
from prefdelta.experiments.unit import Division, Externals, Make, MakeShard, RunContext, Unit, Work
from prefdelta.recipe import Benchmark, ModelRef, Sampling, Search, Server

if TYPE_CHECKING:
    from prefdelta.adapters import LoraAdapter
    from prefdelta.core.models import LoadedModel

RECORD_BYTES = 1024
"""Roughly, of one record on disk."""
_ON_ENGINE = "adapter-on-engine"


def answering_config(model: ModelRef) -> dict[str, Any]:
    """How a model answers, for a unit's key, where that is not as models do by default."""
    return model.model_dump(include={"engine", "dtype", "thinking"}, exclude_defaults=True)


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

    @property
    def asked(self) -> list[tuple[Benchmark, int]]:
        """The benchmarks, each with how many items this side of it has at most."""
        return [
            (benchmark, benchmark.validation if self.split == "validation" else benchmark.test)
            for benchmark in self.benchmarks
        ]


def evaluation_unit(
    name: str,
    exam: Exam,
    model: ModelRef,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    weights: Externals,
    times: int,
    make: Make,
) -> Unit:
    """A unit of the stage ``validation`` or ``test``, in which a model passes an exam.

    Args:
        name: where the artifact is.
        exam: what is asked; its seed is no part of the unit's key.
        model: who answers.
        config: what else than benchmarks, sampling and search decides the answers.
        inputs: label -> artifact.
        weights: what the model contributes to the key, if it is no input.
        times: how often everything is asked.
        make: writes the records.
    """
    return Unit(
        name,
        exam.split,
        config={**config, "benchmarks": exam.benchmarks, "sampling": exam.sampling, "search": exam.search},
        inputs=inputs,
        externals={**weights, **benchmark_externals(exam.benchmarks), **corpus_externals(exam.search)},
        make=make,
        work=work_of_exam(model, exam, times),
        resumable=True,
    )


def work_of_exam(model: ModelRef, exam: Exam, times: int) -> Work:
    """The size of an exam that a model passes so many times."""
    samples = times * sum(items for _, items in exam.asked)
    load = evaluated(model, exam.asked, exam.sampling, exam.search, times)
    return Work(samples=samples, disk=samples * RECORD_BYTES, load=load)


def division_of_records(model: ModelRef, exam: Exam, make: MakeShard) -> Division:
    """How a model's answers in an exam are divided; pairs, which are only read, are not."""
    answers = sum(items for benchmark, items in exam.asked if benchmark.pairs is None)
    together = GROUP_BATCHES * exam.sampling.batch_size if model.engine == "transformers" else 1
    return Division(group_count(answers, together), make)


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
