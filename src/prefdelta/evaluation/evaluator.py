"""Evaluating one base model with one adapter after another, each on the same items with the same random numbers."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol

from prefdelta.adapter import MemoryAdapter
from prefdelta.evaluation.backends import Backend, LocalBackend
from prefdelta.evaluation.record import record_of
from prefdelta.evaluation.scoring import SCORERS, Score
from prefdelta.evaluation.work import Job, shards_of
from prefdelta.models import LoadedModel
from prefdelta.recipe import Sampling
from prefdelta.records import Item, Record, Sample, to_json
from prefdelta.sampling.request import Request, Sampler
from prefdelta.search import Environment
from prefdelta.store import replace_text

Behaviours = Callable[[Item, Sample], Mapping[str, bool]]


class Scoring(Protocol):
    """Scores answers to items, in order."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def __call__(self, items: Sequence[Item], samples: Sequence[Sample]) -> list[Score]:
        """One score per item."""
        ...


Progress = Callable[[int, int], None]


class Evaluator:
    """Answers benchmark items with a base model, bare or with an adapter on it, and scores the answers.

    The base is loaded once; adapters of any rank come and go without a reload and leave it bit for bit as it was.

    Args:
        model: the base model, or another backend that gives answers (a server with adapters, say).
        behaviours: says which behaviours an answer shows; kept in a record's ``extra`` as ``behaviour:NAME``.
    """

    def __init__(self, model: LoadedModel | Backend, *, behaviours: Behaviours | None = None) -> None:
        self._backend: Backend = LocalBackend(model) if isinstance(model, LoadedModel) else model
        self._behaviours = behaviours

    def evaluate(
        self,
        adapter: Path | MemoryAdapter | str | None,
        scale: float,
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str | Scoring],
        sampling: Sampling | Mapping[str, Sampling],
        search: Environment | None = None,
        *,
        seed: int = 0,
    ) -> list[Record]:
        """Answer and score all items.

        The random numbers of an answer depend on ``seed`` and the item's id only. Two variants evaluated with one
        seed so answer each item with the same random numbers, which makes their paired difference more precise
        (common random numbers).

        Args:
            adapter: a PEFT LoRA folder, one in memory, the name of one that a server holds, or ``None`` for the bare
                base.
            scale: λ, by which the adapter's update is multiplied.
            items: the items of each benchmark, by its name, which becomes the records' ``task``.
            scorers: the scorer of each benchmark: a key of ``SCORERS``, or a function.
            sampling: how answers are drawn, for all benchmarks or by name; its own ``seed`` is not used.
            search: what may be searched, and how; only by the benchmarks whose scorer is one of ``SCORERS``.
            seed: of the random numbers.

        Raises:
            PrefdeltaError: the adapter does not fit the base, or changes nothing although it is not zero.
        """
        shards = shards_of(_jobs(items, scorers, sampling, search))
        return [record for _, records in self._run(adapter, scale, shards, scorers, seed, ()) for record in records]

    def evaluate_to_folder(
        self,
        folder: Path,
        adapter: Path | MemoryAdapter | str | None,
        scale: float,
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str | Scoring],
        sampling: Sampling | Mapping[str, Sampling],
        search: Environment | None = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """:meth:`evaluate`, written to ``records.jsonl`` in ``folder`` and resumable.

        Records are first kept in fixed shards, ``shards/00000.jsonl`` and so on; a run that was killed skips the
        finished ones and ends with the same bytes as one that was not. ``progress`` is called with the number of
        items done and in all.
        """
        joined = folder / "joined.jsonl"
        if not joined.is_file():
            shards = shards_of(_jobs(items, scorers, sampling, search))
            paths = [folder / "shards" / f"{number:05}.jsonl" for number in range(len(shards))]
            done = {number for number, path in enumerate(paths) if path.is_file()}
            finished, total = sum(len(shards[number]) for number in done), sum(map(len, shards))
            for number, records in self._run(adapter, scale, shards, scorers, seed, done):
                replace_text(paths[number], "".join(to_json(record) + "\n" for record in records))
                finished += len(records)
                if progress is not None:
                    progress(finished, total)
            replace_text(joined, "".join(path.read_text(encoding="utf-8") for path in paths))
        # records.jsonl appears last: where it is, nothing else is left to be done.
        if (folder / "shards").is_dir():
            shutil.rmtree(folder / "shards")
        os.replace(joined, folder / "records.jsonl")

    def _run(
        self,
        adapter: Path | MemoryAdapter | str | None,
        scale: float,
        shards: Sequence[Sequence[Job]],
        scorers: Mapping[str, str | Scoring],
        seed: int,
        done: Container[int],
    ) -> Iterator[tuple[int, list[Record]]]:
        """Yield (shard number, its records) for each shard that is not done yet."""
        todo = [number for number in range(len(shards)) if number not in done]
        if not todo:
            return
        probes = [job.item for job in shards[todo[0]]]
        with self._backend.variant(adapter, scale, probes) as sampler_for:
            for number in todo:
                jobs = shards[number]
                requests = [Request(job.item, _request_seed(seed, job)) for job in jobs]
                answers = _answers(sampler_for(jobs[0].sampling, jobs[0].search), requests)
                yield number, self._records(jobs, answers, scorers)

    def _records(
        self, jobs: Sequence[Job], answers: Sequence[Sample], scorers: Mapping[str, str | Scoring]
    ) -> list[Record]:
        records = []
        for task, pairs in groupby(zip(jobs, answers, strict=True), key=lambda pair: pair[0].task):
            mine, samples = zip(*pairs, strict=True)
            scorer = scorers[task]
            name = scorer if isinstance(scorer, str) else scorer.name
            scores = _scores(scorer, [job.item for job in mine], samples)
            for job, sample, score in zip(mine, samples, scores, strict=True):
                shown = self._behaviours(job.item, sample) if self._behaviours is not None else {}
                records.append(record_of(job, sample, score, name, shown))
        return records


def _scores(scorer: str | Scoring, items: Sequence[Item], samples: Sequence[Sample]) -> list[Score]:
    if isinstance(scorer, str):
        return [SCORERS[scorer](sample, item.answers) for item, sample in zip(items, samples, strict=True)]
    return scorer(items, samples)


def _jobs(
    items: Mapping[str, Sequence[Item]],
    scorers: Mapping[str, str | Scoring],
    sampling: Sampling | Mapping[str, Sampling],
    search: Environment | None,
) -> list[Job]:
    jobs = []
    for task, entries in items.items():
        drawn = sampling if isinstance(sampling, Sampling) else sampling[task]
        searched = search if isinstance(scorers[task], str) else None
        asked = searched.dressed(entries) if searched is not None else entries
        jobs += [Job(task, item, drawn, searched) for item in asked]
    return jobs


def _answers(sampler: Sampler, requests: Sequence[Request]) -> list[Sample]:
    found: dict[int, Sample] = {}
    for part in sampler.stream(requests):
        found.update(part)
    return [found[place] for place in range(len(requests))]


def _request_seed(seed: int, job: Job) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{job.task}\n{job.item.id}".encode()).digest()[:8], "big") >> 1
