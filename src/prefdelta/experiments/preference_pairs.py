"""Two models' answers to the same prompts -> preference pairs with their data card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import write_json
from prefdelta.core.records import Item, Score, read_rows, write_rows
from prefdelta.evaluation.benchmarks import drawn, evaluation_texts
from prefdelta.generation.responses import load_answers
from prefdelta.pairs.candidates import with_scores
from prefdelta.pairs.card import data_card, preferred_by
from prefdelta.pairs.pairing import finish_pairs
from prefdelta.pairs.rules import by_order, by_score
from prefdelta.recipe import Benchmark, Filters, ModelRef, Pairing, Questions

PAIRS = "pairs.jsonl"
HELD_OUT = "held_out.jsonl"
DROPPED = "dropped.jsonl"
COUNTS = "counts.json"


@dataclass(frozen=True)
class PairFiles:
    """Answers of the weak and of the weaker model, with scores where needed.

    The systems name whose answers are meant in a published file that holds those of several.
    """

    chosen: Path
    rejected: Path
    chosen_scores: Path | None = None
    rejected_scores: Path | None = None
    chosen_system: str | None = None
    rejected_system: str | None = None


def write_pairs(
    work: Path,
    items: Sequence[Item],
    files: PairFiles,
    pairing: Pairing,
    filters: Filters,
    about: Mapping[str, Any],
    *,
    questions: Questions | None = None,
    benchmarks: Sequence[Benchmark] = (),
    student: ModelRef | None = None,
    held_out: int = 0,
    least_held_out: int = 1,
) -> None:
    """Prompts and two files of answers to them -> ``pairs.jsonl`` and its data card, and ``held_out.jsonl``.

    ``dropped.jsonl`` has the pairs that filters dropped, each with the reason, if there are any.

    Args:
        work: the working folder.
        items: the prompts.
        files: answers and scores.
        pairing: which answers make a pair.
        filters: which pairs are dropped.
        about: where they come from, for the card.
        questions: how the prompts were dressed.
        benchmarks: the evaluation sets, for decontamination.
        student: whose tokenizer counts tokens.
        held_out: the pairs of the first so many prompts, in the order of a hash of their ids, are not trained on.
        least_held_out: so many of these pairs are needed.

    Raises:
        PrefdeltaError: answers or scores cannot be read or are missing, or a side is left with too few pairs.
    """
    aside = {item.id for item in drawn(items)[:held_out]}
    chosen = load_answers(files.chosen, items, files.chosen_system)
    rejected = load_answers(files.rejected, items, files.rejected_system)
    if pairing.needs_scores:
        if files.chosen_scores is None or files.rejected_scores is None:
            raise PrefdeltaError(f"the pairing rule {pairing.rule.name!r} needs scores of all answers; give them.")
        pools = [
            with_scores("weak", chosen, read_rows(files.chosen_scores, Score)),
            with_scores("weaker", rejected, read_rows(files.rejected_scores, Score)),
        ]
        proposal = by_score(items, pools, pairing)
    else:
        proposal = by_order(items, chosen, rejected)
    tokenizer = None
    if filters.identical_within and student:
        from prefdelta.core.models import load_tokenizer  # here, as pairing needs no torch otherwise

        tokenizer = load_tokenizer(student)
    pairs, counts, dropped = finish_pairs(
        items,
        proposal,
        filters,
        questions=questions,
        evaluated=evaluation_texts(benchmarks) if filters.decontaminate else None,
        tokenizer=tokenizer,
    )
    if held_out:
        kept = [pair for pair in pairs if pair.chosen.item in aside]
        pairs = [pair for pair in pairs if pair.chosen.item not in aside]
        if len(kept) < least_held_out or not pairs:
            raise PrefdeltaError(
                f"{len(kept)} pairs are held out, of {least_held_out} that benchmarks need, and {len(pairs)} are left "
                "to train on; change held_out or the filters."
            )
        write_rows(work / HELD_OUT, kept)
        counts = replace(counts, dropped={**counts.dropped, "held_out": len(kept)}, pairs=len(pairs))
    if any(dropped.values()):
        write_rows(
            work / DROPPED, ({"reason": reason, "pair": pair} for reason, those in dropped.items() for pair in those)
        )
    write_rows(work / PAIRS, pairs)
    write_json(work / COUNTS, counts)
    card = data_card(pairs, counts, about, preferred=preferred_by(pairing))
    (work / "README.md").write_text(card, encoding="utf-8")
