"""Rules: element-wise ways to combine several updates, whatever the space their coordinates are taken in.

A rule is a sparsifier followed by a consensus, or a function of its own. Adding one is an entry in :data:`RULES`; it
then exists in every space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from prefdelta.merging.registry import Options
from prefdelta.merging.rules.consensus import signed_mean, weighted_sum
from prefdelta.merging.rules.sce import SceOptions, fit_sce
from prefdelta.merging.rules.sparsify import (
    BREADCRUMBS,
    DELLA,
    MAGNITUDE,
    RANDOM,
    Apply,
    Context,
    Sparsifier,
)
from prefdelta.merging.rules.stream import Stream

__all__ = ["RULES", "Context", "Rule", "Stream"]


@dataclass(frozen=True)
class Rule:
    """An element-wise rule.

    Attributes:
        name: its part of a method's name.
        summary: what it does to each entry.
        paper: where it comes from.
        options: the model of its options.
        fit: ``fit(stream, weights, options, context)`` looks at the whole stream and returns the map from a block
            ``(N, b, columns)`` to the combined ``(b, columns)``.
    """

    name: str
    summary: str
    paper: str
    options: type[Options]
    fit: Callable[[Stream, Tensor, Any, Context], Apply]


def _rule(name: str, summary: str, sparsifier: Sparsifier, combine: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    def fit(stream: Stream, weights: Tensor, options: Any, context: Context) -> Apply:
        thin = sparsifier.fit(stream, options, context)
        return lambda block: combine(thin(block), weights)

    paper = sparsifier.paper
    if combine is signed_mean and sparsifier is not MAGNITUDE:
        paper += "; TIES-Merging, arXiv 2306.01708"
    return Rule(name, summary, paper, sparsifier.options, fit)


RULES: tuple[Rule, ...] = (
    _rule("ties", "keep the largest entries, elect signs, average the agreeing", MAGNITUDE, signed_mean),
    _rule("magnitude-prune", "keep the largest entries, weighted sum", MAGNITUDE, weighted_sum),
    _rule("dare", "drop entries at random, rescale the rest, weighted sum", RANDOM, weighted_sum),
    _rule("dare-ties", "drop entries at random, rescale, elect signs, average", RANDOM, signed_mean),
    _rule("breadcrumbs", "drop the largest and the smallest entries, weighted sum", BREADCRUMBS, weighted_sum),
    _rule("breadcrumbs-ties", "drop the largest and smallest entries, elect signs, average", BREADCRUMBS, signed_mean),
    _rule("della", "drop small entries more often, rescale, elect signs, average", DELLA, signed_mean),
    _rule("della-linear", "drop small entries more often, rescale, weighted sum", DELLA, weighted_sum),
    Rule(
        "sce",
        "keep the entries that vary most, weigh updates by their squares, drop the minority sign",
        "FuseChat 2.0 (SCE), arXiv 2408.07990",
        SceOptions,
        fit_sce,
    ),
)
