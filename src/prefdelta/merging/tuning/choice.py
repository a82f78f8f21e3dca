"""How λ and the merge method are chosen: the best of scored candidates, its ties, and the edge of the grid.

The one rule of runs (the selection of scale and method), of suites (the settings of a method) and of the command
``tune``: the best score wins, and the first of equals, so callers give candidates from the simple to the complex and
scales upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

from prefdelta.evaluation.statistics import Array, paired_difference
from prefdelta.merging.scale import Scale
from prefdelta.recipe import By

C = TypeVar("C", bound=Hashable)
Edge = Literal["smallest", "largest"]


@dataclass(frozen=True)
class Choice(Generic[C]):
    """The best candidate.

    Attributes:
        best: the candidate.
        score: its score.
        edge: which end of the λ's that were tried with everything else equal the best one is, so that a better one may
            lie beyond; ``None`` inside of them, and where one λ or a rule was tried.
        ties: the other candidates that the items cannot tell from the best: the 95 % interval of the paired
            difference holds 0. Empty where no scores per item were given.
        others: all other candidates.
    """

    best: C
    score: float
    edge: Edge | None
    ties: tuple[C, ...] = ()
    others: tuple[C, ...] = ()


def choose(
    scores: Mapping[C, float],
    place: Callable[[C], tuple[Hashable, Scale]],
    items: Mapping[C, Sequence[Array]] = MappingProxyType({}),
    *,
    unit: float = 1.0,
) -> Choice[C]:
    """The candidate with the best score, the first of equals.

    Args:
        scores: the mean score of every candidate, larger is better, in the order of preference between equals.
        place: a candidate's λ, after what it shares with the candidates that differ from it in λ alone.
        items: each candidate's scores by task, ``(seeds, items)``, the same items for all.
        unit: the largest difference one item can show, see :func:`prefdelta.evaluation.statistics.paired_difference`.
    """
    best = max(scores, key=lambda candidate: scores[candidate])
    group, scale = place(best)
    tried = {other for same, other in map(place, scores) if same == group and not isinstance(other, str)}
    edge: Edge | None = None
    if len(tried) > 1 and scale in (min(tried), max(tried)):
        edge = "smallest" if scale == min(tried) else "largest"
    ties = tuple(other for other in items if other != best and _tied(items[best], items[other], unit))
    return Choice(best, scores[best], edge, ties, tuple(other for other in scores if other != best))


def _tied(best: Sequence[Array], other: Sequence[Array], unit: float) -> bool:
    return paired_difference([left - right for left, right in zip(best, other, strict=True)], unit=unit).low <= 0


@dataclass(frozen=True)
class Selection:
    """What was chosen among names (merge methods, or deltas), each at several λ.

    Attributes:
        scores: for each name, the mean score over seeds at each λ.
        scale: the best λ of each name; the smaller one of equals.
        best: the name with the best score at its best λ; the first of equals.
        at_edge: names whose best λ is the smallest or largest that was tried, so that a better one may lie beyond.
        by: what a score is.
        ranges: for each name, the smallest and the largest of the neighbouring λ that the items cannot tell from its
            best one. Empty where no scores per item were given, and so are ``flat`` and ``ties``.
        flat: names of which the items cannot tell any λ from the best: the signal says nothing.
        ties: the other names that the items cannot tell from the best, each at its best λ.
    """

    scores: Mapping[str, Mapping[float, float]]
    scale: Mapping[str, float]
    best: str
    at_edge: tuple[str, ...]
    by: By = "labels"
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    flat: tuple[str, ...] = ()
    ties: tuple[str, ...] = ()


def select(
    scores: Mapping[tuple[str, float], Sequence[float]],
    items: Mapping[tuple[str, float], Sequence[Array]] = MappingProxyType({}),
    *,
    by: By = "labels",
    unit: float = 1.0,
) -> Selection:
    """Choose from scores by (name, λ), one score per training seed.

    One λ serves all seeds: it is chosen by the mean, as a user would have to.

    Args:
        scores: larger is better.
        items: the same by item, as :func:`choose` takes them.
        by: what a score is.
        unit: as in :func:`choose`.
    """
    means = {key: sum(values) / len(values) for key, values in scores.items()}
    names = list(dict.fromkeys(name for name, _ in means))
    grids = {
        name: {scale: means[name, scale] for scale in sorted(scale for own, scale in means if own == name)}
        for name in names
    }
    by_item = {
        name: {scale: items[name, scale] for scale in grid if (name, scale) in items} for name, grid in grids.items()
    }
    choices = {
        name: choose(grid, lambda scale: (None, scale), by_item[name], unit=unit) for name, grid in grids.items()
    }
    best = max(names, key=lambda name: choices[name].score)
    at_best = {name: by_item[name][choice.best] for name, choice in choices.items() if by_item[name]}
    return Selection(
        scores=grids,
        scale={name: choice.best for name, choice in choices.items()},
        best=best,
        at_edge=tuple(name for name, choice in choices.items() if choice.edge),
        by=by,
        ranges={name: level_range(choices[name].best, choices[name].ties, list(grids[name])) for name in at_best},
        flat=tuple(name for name in at_best if 0 < len(choices[name].ties) == len(grids[name]) - 1),
        ties=tuple(name for name in at_best if name != best and _tied(at_best[best], at_best[name], unit)),
    )


def level_range(best: float, ties: Collection[float], tried: Sequence[float]) -> tuple[float, float]:
    """The ends of the run of neighbouring λ around the best one that are tied with it; ``tried`` goes upwards."""
    low = high = tried.index(best)
    while low > 0 and tried[low - 1] in ties:
        low -= 1
    while high < len(tried) - 1 and tried[high + 1] in ties:
        high += 1
    return tried[low], tried[high]
