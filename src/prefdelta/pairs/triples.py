"""WRPO's rows: the best answer of all sources, and the best and the worst of the target's own (arXiv 2412.03187)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Triple, alike
from prefdelta.pairs.candidates import Pool, best, best_of_sources, worst


@dataclass(frozen=True)
class TripleCounts:
    """What became of the items; each is counted at the first that applies.

    ``missing``: no source answered, or the target did not. ``tied``: the target's best and worst answers have the same
    score (or there is only one), so nothing tells them apart. ``identical``: they have the same text.
    ``small_gap``: they are closer than asked. ``source_behind``: the best source answer scores below the target's best
    answer, and that was asked to be dropped. ``source_ahead`` counts the *triples* whose source answer scores
    above the target's best one: WRPO's release does not ask for it, so it is told.
    """

    items: int
    missing: int
    tied: int
    identical: int
    small_gap: int
    source_behind: int
    triples: int
    source_ahead: int


def make_triples(
    items: Sequence[Item],
    sources: Sequence[Pool],
    target: Pool,
    *,
    min_gap: float = 0.0,
    source_ahead: bool = False,
) -> tuple[list[Triple], TripleCounts]:
    """One triple per item, in the order of the items.

    Args:
        items: the questions.
        sources: the scored answers of each source; their order decides ties.
        target: the scored answers of the model to be trained.
        min_gap: drop items whose best and worst target answers are closer in score than this.
        source_ahead: drop items whose best source answer scores below the target's best answer.

    Raises:
        PrefdeltaError: no triple is left; the message has the counts.
    """
    source_best = best_of_sources(items, sources)
    triples: list[Triple] = []
    dropped = dict.fromkeys(("missing", "tied", "identical", "small_gap", "source_behind"), 0)
    ahead = 0
    for item in items:
        own = target.get(item.id, ())
        if not own or item.id not in source_best:
            dropped["missing"] += 1
            continue
        source, good, bad = source_best[item.id], best(own), worst(own)
        if good.score == bad.score:
            dropped["tied"] += 1
        elif alike(good.sample, bad.sample):
            dropped["identical"] += 1
        elif good.score - bad.score < min_gap:
            dropped["small_gap"] += 1
        elif source_ahead and source.score < good.score:
            dropped["source_behind"] += 1
        else:
            ahead += source.score > good.score
            triples.append(Triple(item.id, item.task, item.messages, source.sample, good.sample, bad.sample))
    if not triples:
        told = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise PrefdeltaError(f"no triple is left of {len(items)} items ({told}); sample more answers to each item.")
    counts = TripleCounts(items=len(items), triples=len(triples), source_ahead=ahead, **dropped)
    return triples, counts
