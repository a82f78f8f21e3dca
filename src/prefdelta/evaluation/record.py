"""From an answer and its score to the record that is kept of it."""

from __future__ import annotations

from collections.abc import Mapping

from prefdelta.evaluation.results import BEHAVIOUR
from prefdelta.evaluation.scoring import Score, answer_start
from prefdelta.evaluation.searching import measures
from prefdelta.evaluation.work import Job
from prefdelta.records import Record, Sample, digest


def record_of(job: Job, sample: Sample, score: Score, scorer: str, shown: Mapping[str, bool]) -> Record:
    """The record of one answer; ``scorer`` gave the score, and ``shown`` says which behaviours it shows."""
    extra = dict(score.extra)
    if job.search is not None:
        extra |= measures(sample, job.item.answers)
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
