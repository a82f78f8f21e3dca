"""Choosing scale and method on validation scores, before any test item is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """What validation chose.

    Attributes:
        scores: for each name (a merge method, or a delta), the mean score over seeds at each scale λ.
        scale: the best scale of each name; the smaller one of equals.
        best: the name with the best score at its best scale; the first of equals.
        at_edge: names whose best scale is the smallest or largest that was tried, so that a better one may lie beyond.
    """

    scores: Mapping[str, Mapping[float, float]]
    scale: Mapping[str, float]
    best: str
    at_edge: tuple[str, ...]


def choose(scores: Mapping[tuple[str, float], Sequence[float]]) -> Selection:
    """Choose from validation scores by (name, scale), one score per training seed.

    One scale serves all seeds: it is chosen by the mean, as a user would have to.
    """
    means: dict[str, dict[float, float]] = {}
    for (name, scale), values in scores.items():
        means.setdefault(name, {})[scale] = sum(values) / len(values)
    means = {name: dict(sorted(grid.items())) for name, grid in means.items()}
    best_scale = {name: _best(grid) for name, grid in means.items()}
    return Selection(
        scores=means,
        scale=best_scale,
        best=max(means, key=lambda name: means[name][best_scale[name]]),
        at_edge=tuple(
            name for name, grid in means.items() if len(grid) > 1 and best_scale[name] in (min(grid), max(grid))
        ),
    )


def _best(grid: Mapping[float, float]) -> float:
    return max(grid, key=lambda scale: (grid[scale], -scale))
