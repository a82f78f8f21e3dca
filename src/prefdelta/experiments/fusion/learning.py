"""The units that divide the prompts, choose answers by their scores, and train on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import write_json
from prefdelta.core.records import Demonstration, Example, Item, Pair, Sample, Score, Triple, read_rows, write_rows
from prefdelta.core.store import Artifact
from prefdelta.experiments.answers import PROMPTS
from prefdelta.experiments.fusion.fusion_context import SFT, FusionContext, shown_of
from prefdelta.experiments.identity import portable, seed_from, source_config
from prefdelta.experiments.student import STUDENT
from prefdelta.experiments.training import Seeds, adapter_unit
from prefdelta.experiments.unit import Inputs, RunContext, Unit, Work
from prefdelta.generation.responses import RESPONSES
from prefdelta.pairs.candidates import Candidate, best_of_sources, with_scores
from prefdelta.pairs.scoring.scores import SCORE_ROWS
from prefdelta.pairs.triple_card import triple_card, triple_summary
from prefdelta.pairs.triples import make_triples
from prefdelta.recipe.fusion import Comparison

DEMONSTRATIONS = "demonstrations.jsonl"
TRIPLES = "triples.jsonl"
COUNTS = "counts.json"
SUMMARY = "summary.json"

_Pool = dict[str, list[Candidate]]


def demonstrations(fusion: FusionContext, seed: int) -> Unit:
    """The best source answer to each of a random share of the prompts; the other prompts are left for the preference.

    Making it raises a PrefdeltaError if no source answered any prompt of the share.
    """
    recipe, labels, drawn = fusion.recipe, list(fusion.sources), seed_from(seed, "division")

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        shown, left = divide(read_rows(inputs["prompts"].path / PROMPTS, Item), recipe.sft_share, drawn)
        chosen = best_of_sources(shown, _source_pools(inputs, labels))
        rows = [
            Demonstration(item.id, item.task, item.messages, chosen[item.id].sample)
            for item in shown
            if item.id in chosen
        ]
        if not rows:
            raise PrefdeltaError("no source answered any of the prompts to fine-tune on; look at the sources' answers.")
        write_rows(work / DEMONSTRATIONS, rows)
        write_rows(work / PROMPTS, left)
        counts = {
            "prompts": len(shown),
            "unanswered": len(shown) - len(rows),
            "demonstrations": len(rows),
            "best_source": {label: sum(chosen[row.id].source == label for row in rows) for label in labels},
            "score": float(np.mean([chosen[row.id].score for row in rows])),
            "tokens": float(np.mean([row.response.tokens for row in rows])),
        }
        write_json(work / COUNTS, counts)

    return Unit(
        f"demonstrations/{seed}",
        "demonstrations",
        config={"share": recipe.sft_share, "seed": drawn, "sources": labels},
        inputs={"prompts": "prompts", **fusion.answers},
        make=make,
        work=Work(disk=fusion.shown * 4096),
    )


def divide(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """A random ``share`` of the items and the rest, both in the items' order.

    Raises:
        PrefdeltaError: one of the two would be empty.
    """
    count = shown_of(len(items), share)
    drawn = set(np.random.default_rng(seed).choice(len(items), count, replace=False).tolist())
    first = [item for place, item in enumerate(items) if place in drawn]
    return first, [item for place, item in enumerate(items) if place not in drawn]


def fine_tuning(fusion: FusionContext, seed: int) -> Unit:
    """Supervised fine-tuning on the demonstrations."""
    training = fusion.recipe.sft
    return adapter_unit(
        f"adapters/{seed}/{SFT}",
        fusion.student,
        training,
        seeds=Seeds(seed_from(seed, SFT), seed_from(seed, "init")),
        inputs={"rows": f"demonstrations/{seed}"},
        config={"training": training},
        examples=lambda inputs: read_rows(inputs["rows"].path / DEMONSTRATIONS, Demonstration),
        rows=fusion.shown,
        text=fusion.text,
    )


def triples(fusion: FusionContext, name: str, questions: str, *, count: int) -> Unit:
    """For each prompt the best source answer, and the best and worst of the student's own ``responses/NAME``."""
    recipe, labels = fusion.recipe, list(fusion.sources)
    about = portable(
        {
            "sources": [source_config(source) for source in recipe.sources],
            "student": recipe.student,
            "fine-tuned": name != STUDENT,
            "sampling": recipe.sampling,
            "scoring": recipe.scoring,
            "triples": recipe.triples,
        }
    )

    def make(work: Path, inputs: Inputs, context: RunContext) -> None:
        items = read_rows(inputs["prompts"].path / PROMPTS, Item)
        pools, own = _source_pools(inputs, labels), _pool("student", inputs["responses"], inputs["scores"])
        least, ahead = recipe.triples.min_gap, recipe.triples.source_ahead
        rows, counts = make_triples(items, pools, own, min_gap=least, source_ahead=ahead)
        chosen = best_of_sources(items, pools)
        summary = triple_summary(rows, {row.id: chosen[row.id] for row in rows}, own)
        write_rows(work / TRIPLES, rows)
        write_json(work / COUNTS, counts)
        write_json(work / SUMMARY, summary)
        (work / "README.md").write_text(triple_card(counts, summary, about), encoding="utf-8")

    return Unit(
        f"triples/{name}",
        "triples",
        config={"about": about, "sources": labels},
        inputs={
            "prompts": questions,
            **fusion.answers,
            "responses": f"responses/{name}",
            "scores": f"scores/{name}",
        },
        make=make,
        work=Work(disk=count * 6144),
    )


def preference(fusion: FusionContext, seed: int, name: str, method: Comparison) -> Unit:
    """The training of one method on the triples, or on pairs of the best source answer and the worst own one."""
    tuned = method.start == SFT

    def examples(inputs: Inputs) -> Sequence[Example]:
        rows = read_rows(inputs["triples"].path / TRIPLES, Triple)
        if method.chosen == "own":
            return rows  # objectives for pairs look at a triple's two own answers
        return [Pair(row.id, row.task, row.prompt, row.source, row.rejected) for row in rows]

    return adapter_unit(
        f"adapters/{seed}/{name}",
        fusion.student,
        method.training,
        # One order and one beginning for all methods of a seed: where two learn from the same rows, they differ in
        # nothing but the objective.
        seeds=Seeds(seed_from(seed, "preference"), seed_from(seed, "init")),
        inputs={
            "triples": f"triples/{seed if tuned else STUDENT}",
            **({"adapter": f"adapters/{seed}/{SFT}"} if tuned else {}),
        },
        config={"method": method},
        examples=examples,
        rows=fusion.left if tuned else fusion.recipe.prompts.count,
        text=fusion.text,
    )


def _source_pools(inputs: Inputs, labels: Sequence[str]) -> list[_Pool]:
    """Each source's scored answers by prompt."""
    return [_pool(label, inputs[f"responses of {label}"], inputs[f"scores of {label}"]) for label in labels]


def _pool(label: str, responses: Artifact, scores: Artifact) -> _Pool:
    return with_scores(label, read_rows(responses.path / RESPONSES, Sample), read_rows(scores.path / SCORE_ROWS, Score))
