"""What each stage of a fusion does with its artifacts: the glue between files and the packages that do the work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from prefdelta.apply import apply_adapter
from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.applying import applied
from prefdelta.pairs.candidates import Candidate, best_of_sources, with_scores
from prefdelta.pairs.triple_card import triple_card, triple_summary
from prefdelta.pairs.triples import make_triples
from prefdelta.pipeline import stages
from prefdelta.pipeline.stages import PROMPTS, RESPONSES, Inputs
from prefdelta.pipeline.unit import Workbench
from prefdelta.recipe import ModelRef, Sampling, Search
from prefdelta.recipe.fusion import Comparison, Triples
from prefdelta.records import Demonstration, Example, Item, Pair, Sample, Score, Triple, read_rows, write_rows
from prefdelta.sampling.local import TransformersSampler
from prefdelta.sampling.responses import sample_responses
from prefdelta.scoring.scores import SCORE_ROWS
from prefdelta.store import Artifact, write_json

DEMONSTRATIONS = "demonstrations.jsonl"
TRIPLES = "triples.jsonl"
COUNTS = "counts.json"
SUMMARY = "summary.json"

Answers = tuple[Artifact, Artifact]
"""A model's responses, and their scores."""


def divide(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """A random ``share`` of the items and the rest, both in the items' order.

    Raises:
        PrefdeltaError: one of the two would be empty.
    """
    count = round(share * len(items))
    if not 0 < count < len(items):
        raise PrefdeltaError(
            f"sft_share {share:g} of {len(items)} prompts leaves {count} to fine-tune on and {len(items) - count} for "
            "the preference; both need some: change sft_share or raise prompts.count."
        )
    drawn = set(np.random.default_rng(seed).choice(len(items), count, replace=False).tolist())
    first = [item for place, item in enumerate(items) if place in drawn]
    return first, [item for place, item in enumerate(items) if place not in drawn]


def write_demonstrations(work: Path, prompts: Path, sources: Mapping[str, Answers], share: float, seed: int) -> None:
    """The best source answer to each of a random share of the prompts; the other prompts are kept for the preference.

    Raises:
        PrefdeltaError: no source answered any prompt of the share.
    """
    shown, left = divide(read_rows(prompts, Item), share, seed)
    chosen = best_of_sources(shown, [_pool(label, answers) for label, answers in sources.items()])
    rows = [
        Demonstration(item.id, item.task, item.messages, chosen[item.id].sample) for item in shown if item.id in chosen
    ]
    if not rows:
        raise PrefdeltaError("no source answered any of the prompts to fine-tune on; look at the sources' answers.")
    write_rows(work / DEMONSTRATIONS, rows)
    write_rows(work / PROMPTS, left)
    by_source = {label: sum(chosen[row.id].source == label for row in rows) for label in sources}
    scores = [chosen[row.id].score for row in rows]
    write_json(
        work / COUNTS,
        {
            "prompts": len(shown),
            "unanswered": len(shown) - len(rows),
            "demonstrations": len(rows),
            "best_source": by_source,
            "score": float(np.mean(scores)),
            "tokens": float(np.mean([row.response.tokens for row in rows])),
        },
    )


def write_own_responses(
    work: Path,
    prompts: Path,
    bench: Workbench,
    student: ModelRef,
    adapter: Path | None,
    sampling: Sampling,
    search: Search | None,
    seed: int,
) -> None:
    """The answers of the student, bare or with an adapter, to the prompts -> ``responses.jsonl``."""
    drawn = sampling.model_copy(update={"seed": seed})
    if adapter is None:
        stages.write_responses(work, prompts, bench, student, drawn, search)
    elif student.engine == "vllm":
        with merged_student(work, student, adapter) as model:
            stages.write_responses(work, prompts, bench, model, drawn, search)
    else:
        with applied(bench.model(student), adapter, 1.0) as loaded:
            sampler = TransformersSampler(loaded, sampling, bench.environment(search))
            sample_responses(read_rows(prompts, Item), sampler, work, seed, sampling.n, bench.progress)


@contextmanager
def merged_student(work: Path, student: ModelRef, adapter: Path) -> Iterator[ModelRef]:
    """The student with an adapter baked in, in a folder that is gone afterwards: for engines that take whole models.

    The weights are rounded to the student's number format, as they are in every merged checkpoint.
    """
    folder = work / "merged"
    apply_adapter(student, adapter, folder, overwrite=True)
    yield student.model_copy(update={"path": str(folder), "revision": None})
    shutil.rmtree(folder)


def write_triples(
    work: Path,
    prompts: Path,
    sources: Mapping[str, Answers],
    own: Answers,
    triples: Triples,
    about: Mapping[str, Any],
) -> None:
    """Scored answers of the sources and of the student itself -> ``triples.jsonl``, with a data card."""
    items = read_rows(prompts, Item)
    pools = [_pool(label, answers) for label, answers in sources.items()]
    target = _pool("student", own)
    rows, counts = make_triples(items, pools, target, min_gap=triples.min_gap, source_ahead=triples.source_ahead)
    chosen = best_of_sources(items, pools)
    summary = triple_summary(rows, {row.id: chosen[row.id] for row in rows}, target)
    write_rows(work / TRIPLES, rows)
    write_json(work / COUNTS, counts)
    write_json(work / SUMMARY, summary)
    (work / "README.md").write_text(triple_card(counts, summary, about), encoding="utf-8")


def read_examples(triples: Path, method: Comparison) -> Sequence[Example]:
    """What a method learns from: the triples, or pairs of the best source answer and the worst own one."""
    rows = read_rows(triples, Triple)
    if method.chosen == "own":
        return rows  # objectives for pairs look at a triple's two own answers
    return [Pair(row.id, row.task, row.prompt, row.source, row.rejected) for row in rows]


def sources_of(inputs: Inputs, labels: Sequence[str]) -> dict[str, Answers]:
    """The sources' answers among a unit's inputs."""
    return {label: (inputs[f"responses of {label}"], inputs[f"scores of {label}"]) for label in labels}


def _pool(label: str, answers: Answers) -> dict[str, list[Candidate]]:
    responses, scores = answers
    return with_scores(label, read_rows(responses.path / RESPONSES, Sample), read_rows(scores.path / SCORE_ROWS, Score))
