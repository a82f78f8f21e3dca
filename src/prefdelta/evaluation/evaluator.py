"""Evaluating one base model with one adapter after another, each on the same items with the same random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prefdelta.agent import Environment
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import replace_text
from prefdelta.core.records import RECORDS, Item, Record, Sample, check_number, digest, to_json
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.shard import WHOLE, Shard
from prefdelta.evaluation.backends import Backend
from prefdelta.evaluation.score_table import BEHAVIOUR
from prefdelta.evaluation.scoring import Score, answer_start, score_all
from prefdelta.evaluation.search_measures import measures
from prefdelta.generation.request import Request, Sampler
from prefdelta.recipe import Named, Sampling

if TYPE_CHECKING:
    from prefdelta.adapters import LoraAdapter
    from prefdelta.core.models import LoadedModel

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

GROUP_BATCHES = 8
"""So many batches in a row are a group: they are answered, scored and kept at once."""


@dataclass(frozen=True)
class Job:
    """One answer wanted: an item of benchmark ``task``, how it is drawn, and what may be searched."""

    task: str
    item: Item
    sampling: Sampling
    search: Environment | None


class Evaluator:
    """Answers benchmark items with a base model, bare or with an adapter on it, and scores the answers.

    The base is loaded once; adapters of any rank come and go without a reload and leave it bit for bit as it was.

    Args:
        model: the base model, or another backend that gives answers (a server with adapters, say).
        behaviours: says which behaviours an answer shows; kept in a record's ``extra`` as ``behaviour:NAME``.
    """

    def __init__(self, model: LoadedModel | Backend, *, behaviours: Behaviours | None = None) -> None:
        if not isinstance(model, Backend):
            from prefdelta.evaluation.in_memory import LocalBackend  # here, as other backends need no torch

            model = LocalBackend(model)
        self._backend = model
        self._behaviours = behaviours

    def evaluate(
        self,
        adapter: Path | LoraAdapter | str | None,
        scale: float,
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str | Named | Scoring],
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
            scorers: the scorer of each benchmark: a key of ``SCORERS``, with or without options, or a function.
            sampling: how answers are drawn, for all benchmarks or by name; its own ``seed`` is not used.
            search: what may be searched, and how; only by the benchmarks whose scorer is one of ``SCORERS``.
            seed: of the random numbers.

        Raises:
            PrefdeltaError: the adapter does not fit the base, or changes nothing although it is not zero.
        """
        groups = _groups_of(_jobs(items, scorers, sampling, search))
        return [record for _, records in self._run(adapter, scale, groups, scorers, seed, ()) for record in records]

    def evaluate_to_folder(
        self,
        folder: Path,
        adapter: Path | LoraAdapter | str | None,
        scale: float,
        items: Mapping[str, Sequence[Item]],
        scorers: Mapping[str, str | Named | Scoring],
        sampling: Sampling | Mapping[str, Sampling],
        search: Environment | None = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        """:meth:`evaluate`, written to ``records.jsonl`` in ``folder`` and resumable.

        Records are kept in ``records.kept-rows``, group by group; a run that was killed skips the finished ones and
        ends with the same bytes as one that was not. The file goes when the artifact is complete. ``progress`` is
        called with the number of items answered and in all, also within a group. Only the part ``shard`` is
        answered; the parts' files, one after the other, are the file of the whole.
        """
        jobs = _jobs(items, scorers, sampling, search)
        groups = shard.of(_groups_of(jobs)) if self._backend.batched else _groups_of(shard.of(jobs))
        rows = ResumableRows(folder / "records.kept-rows")
        done = {number for number in range(len(groups)) if str(number) in rows.found}
        finished, total = sum(len(groups[number]) for number in done), sum(map(len, groups))

        def within(answered: int) -> None:
            if progress is not None:
                progress(finished + answered, total)

        for number, records in self._run(adapter, scale, groups, scorers, seed, done, within):
            rows.add([(str(number), records)])
            finished += len(records)
            if progress is not None:
                progress(finished, total)
        records = [record for number in range(len(groups)) for record in rows.found[str(number)]]
        replace_text(folder / RECORDS, "".join(to_json(record) + "\n" for record in records))

    def _run(
        self,
        adapter: Path | LoraAdapter | str | None,
        scale: float,
        groups: Sequence[Sequence[Job]],
        scorers: Mapping[str, str | Named | Scoring],
        seed: int,
        done: Container[int],
        within: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, list[Record]]]:
        """Yield (group number, its records) for each group that is not done yet.

        ``within`` is called with the number of answers that there are to a group, until it has them all.
        """
        todo = [number for number in range(len(groups)) if number not in done]
        if not todo:
            return
        probes = [job.item for job in groups[todo[0]]]
        with self._backend.variant(adapter, scale, probes) as sampler_for:
            for number in todo:
                jobs = groups[number]
                requests = [Request(job.item, _request_seed(seed, job)) for job in jobs]
                answers = _answers(sampler_for(jobs[0].sampling, jobs[0].search), requests, within)
                yield number, self._records(jobs, answers, scorers)

    def _records(
        self, jobs: Sequence[Job], answers: Sequence[Sample], scorers: Mapping[str, str | Named | Scoring]
    ) -> list[Record]:
        records = []
        for task, pairs in groupby(zip(jobs, answers, strict=True), key=lambda pair: pair[0].task):
            mine, samples = zip(*pairs, strict=True)
            scorer = scorers[task]
            name = scorer if isinstance(scorer, str) else scorer.name
            scores = _scores(scorer, [job.item for job in mine], samples)
            _check_scores(name, scores, mine)
            for job, sample, score in zip(mine, samples, scores, strict=True):
                shown = self._behaviours(job.item, sample) if self._behaviours is not None else {}
                records.append(_record_of(job, sample, score, name, shown))
        return records


def _scores(scorer: str | Named | Scoring, items: Sequence[Item], samples: Sequence[Sample]) -> list[Score]:
    if isinstance(scorer, str | Named):
        return score_all(scorer, ((sample, item.answers) for item, sample in zip(items, samples, strict=True)))
    return scorer(items, samples)


def _check_scores(scorer: str, scores: Sequence[Score], jobs: Sequence[Job]) -> None:
    for score, job in zip(scores, jobs, strict=True):
        try:
            check_number(score.value, "score", 0, 1)
        except ValueError as error:
            raise PrefdeltaError(
                f"the scorer {scorer!r} cannot be used: for item {job.item.id!r} of {job.task!r} its {error}."
            ) from error


def _jobs(
    items: Mapping[str, Sequence[Item]],
    scorers: Mapping[str, str | Named | Scoring],
    sampling: Sampling | Mapping[str, Sampling],
    search: Environment | None,
) -> list[Job]:
    jobs = []
    for task, entries in items.items():
        drawn = sampling if isinstance(sampling, Sampling) else sampling[task]
        searched = search if isinstance(scorers[task], str | Named) else None
        asked = searched.dressed(entries) if searched is not None else entries
        jobs += [Job(task, item, drawn, searched) for item in asked]
    return jobs


def _groups_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in their order, cut into groups whose jobs are all drawn alike.

    Groups do not depend on what was done before, because the numbers of a batch may differ in the last bit with the
    batch's composition.
    """
    groups = []
    for _, alike in groupby(jobs, key=lambda job: (job.sampling, job.search is None)):
        rows = list(alike)
        size = GROUP_BATCHES * rows[0].sampling.batch_size
        groups += [rows[begin : begin + size] for begin in range(0, len(rows), size)]
    return groups


def _record_of(job: Job, sample: Sample, score: Score, scorer: str, shown: Mapping[str, bool]) -> Record:
    """The record of one answer; ``scorer`` gave the score, and ``shown`` says which behaviours it shows."""
    extra = dict(score.extra)
    if job.search is not None:
        extra |= measures(sample, job.item.answers, job.search.protocol.correction)
    return Record(
        task=job.task,
        item=job.item.id,
        score=score.value,
        parsed=score.parsed,
        output=sample.text,
        truncated=sample.finish == "length",
        tokens=sample.tokens,
        extra={**extra, **{BEHAVIOUR + name: float(value) for name, value in shown.items()}},
        prompt_hash=digest({"messages": job.item.messages, "thinking": sample.thinking}),
        answer_start=answer_start(sample),
        scorer=scorer,
    )


def _answers(sampler: Sampler, requests: Sequence[Request], within: Callable[[int], None] | None) -> list[Sample]:
    found: dict[int, Sample] = {}
    for part in sampler.stream(requests):
        found.update(part)
        if within is not None and len(found) < len(requests):
            within(len(found))
    return [found[place] for place in range(len(requests))]


def _request_seed(seed: int, job: Job) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{job.task}\n{job.item.id}".encode()).digest()[:8], "big") >> 1
