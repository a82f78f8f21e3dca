"""Scored answers: the best and the worst of them, and ties, always decided the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Sample, Score


@dataclass(frozen=True)
class Candidate:
    """One answer, who gave it, and its score."""

    source: str
    sample: Sample
    score: float


Pool = Mapping[str, Sequence[Candidate]]
"""Item id -> the candidates of one or more sources, in the order of sources and of answer indices."""


def with_scores(source: str, samples: Sequence[Sample], scores: Sequence[Score]) -> dict[str, list[Candidate]]:
    """Join one source's answers with their scores.

    Raises:
        PrefdeltaError: an answer or a score comes twice, or an answer has no score.
    """
    by_answer = {(score.item, score.index): score.score for score in scores}
    if len(by_answer) < len(scores):
        raise PrefdeltaError(f"{len(scores) - len(by_answer)} answers of {source} are scored twice; keep one score.")
    found: dict[str, list[Candidate]] = {}
    seen: set[tuple[str, int]] = set()
    for sample in sorted(samples, key=lambda sample: sample.index):
        key = (sample.item, sample.index)
        if key in seen:
            raise PrefdeltaError(f"{source} answers the item {sample.item!r} twice with index {sample.index}.")
        if key not in by_answer:
            raise PrefdeltaError(
                f"the answer {sample.index} of {source} to the item {sample.item!r} has no score; score all answers."
            )
        seen.add(key)
        found.setdefault(sample.item, []).append(Candidate(source, sample, by_answer[key]))
    return found


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The highest score; among equals the first, so the order of sources and then of indices decides."""
    return max(candidates, key=lambda entry: entry.score)


def worst(candidates: Sequence[Candidate]) -> Candidate:
    """The lowest score; among equals the last, so that it is not the best one unless there is only one."""
    return min(reversed(candidates), key=lambda entry: entry.score)


def best_of_sources(items: Sequence[Item], sources: Sequence[Pool]) -> dict[str, Candidate]:
    """Item id -> the best answer of all sources (WRPO's y_ws); items that nobody answered are left out."""
    found = {item.id: [entry for source in sources for entry in source.get(item.id, ())] for item in items}
    return {item: best(entries) for item, entries in found.items() if entries}
