"""Scoring all answers of one source, with progress that survives a kill; and scores that exist already."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded, replace_text
from prefdelta.core.records import Item, Sample, Score, digest, read_rows, to_json
from prefdelta.core.resumable_rows import ResumableRows
from prefdelta.core.shard import WHOLE, Shard

SCORE_ROWS = "scores.jsonl"

REWARD_BATCHES = 16
"""So many of a reward model's batches in a row are a group, within which they are cut by length."""


class SampleScorer(Protocol):
    """A way to score answers."""

    @property
    def together(self) -> int:
        """How many answers in a row share batches, and are scored without a look at any others; 1 if none do."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Everything but question and answer that a score depends on, as plain values."""
        ...

    def stream(
        self, answers: Sequence[tuple[Item, Sample]], done: Container[int] = ()
    ) -> Iterator[list[tuple[int, float]]]:
        """Score the answers whose places are not in ``done``; yield (place, score) s as soon as they are there.

        A scorer that batches gets all answers, scored ones too, so that it can cut the same batches in a resumed run;
        it may then yield a score that is there already.

        Raises:
            PrefdeltaError: an answer cannot be scored.
        """
        ...


def score_responses(
    items: Sequence[Item],
    samples: Sequence[Sample],
    scorer: SampleScorer,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    shard: Shard = WHOLE,
) -> list[Score]:
    """Score all answers, and write ``scores.jsonl`` into ``folder`` in the order of the answers.

    Finished scores are kept in ``scores.kept-rows`` while the work goes on; after a kill the same call continues from
    there and ends with the same bytes.

    Args:
        items: the questions; there may be more of them than are answered.
        samples: the answers, any number to an item.
        scorer: scores them.
        folder: an existing folder.
        progress: called with the number of answers scored and of all.
        shard: the part of the answers that is scored.

    Raises:
        PrefdeltaError: an answer is to none of the items, a score is not a number, or as the scorer's ``stream``.
    """
    by_id = {item.id: item for item in items}
    samples = shard.of(samples, scorer.together)
    for sample in samples:
        if sample.item not in by_id:
            raise PrefdeltaError(f"the answer to {sample.item!r} is to none of the {len(items)} prompts.")
    answers = [(by_id[sample.item], sample) for sample in samples]
    described = scorer.describe()
    keys = [digest({"scorer": described, "item": item, "sample": sample}) for item, sample in answers]
    log = ResumableRows(folder / "scores.kept-rows")
    done = {place for place, key in enumerate(keys) if key in log.found}
    if len(done) < len(answers):
        for finished in scorer.stream(answers, done):
            for place, score in finished:
                _check(score, answers[place][1])
            log.add((keys[place], score) for place, score in finished if place not in done)
            done.update(place for place, _ in finished)
            if progress is not None:
                progress(len(done), len(answers))
    scores = [Score(sample.item, sample.index, log.found[key]) for (_, sample), key in zip(answers, keys, strict=True)]
    replace_text(folder / SCORE_ROWS, "".join(to_json(score) + "\n" for score in scores))
    log.remove()
    return scores


def import_scores(path: Path, samples: Sequence[Sample]) -> list[Score]:
    """Scores that exist already, in the order of the answers.

    Args:
        path: JSON Lines of ``{"item": ..., "index": ..., "score": ...}``; more rows than answers do not matter.
        samples: the answers.

    Raises:
        PrefdeltaError: the file cannot be read, scores an answer twice, or lacks one.
    """
    found: dict[tuple[str, int], Score] = {}
    for row in read_rows(expanded(path), Score):
        if (row.item, row.index) in found:
            raise PrefdeltaError(f"{path} scores the answer {row.index} to {row.item!r} twice; keep one.")
        found[row.item, row.index] = row
    for sample in samples:
        if (sample.item, sample.index) not in found:
            raise PrefdeltaError(f"{path} has no score of the answer {sample.index} to {sample.item!r}.")
        _check(found[sample.item, sample.index].score, sample)
    return [found[sample.item, sample.index] for sample in samples]


def _check(score: Any, sample: Sample) -> None:
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise PrefdeltaError(f"the score of the answer {sample.index} to {sample.item!r} is {score!r}, not a number.")
