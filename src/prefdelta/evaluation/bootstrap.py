"""Bootstrap intervals of paired differences: no normality is assumed, only that items (or clusters) are a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefdelta.evaluation.statistics import Array, Clusters, checked_seeds, task_shares

_AT_ONCE = 500  # resamples; bounds memory


def bootstrap_interval(
    differences: Sequence[Array],
    *,
    generator: np.random.Generator,
    weights: Sequence[float] | None = None,
    clusters: Clusters | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean that ``paired_difference`` estimates, over items only.

    Items are drawn with replacement within each task; an item brings its differences of all seeds along. With
    ``clusters`` (for each task, the number of each item's cluster) whole clusters are drawn. The noise of training
    seeds is not covered.
    """
    checked_seeds(differences)
    means = np.zeros(resamples)
    groups = clusters or [np.arange(task.shape[1]) for task in differences]
    for share, task, labels in zip(task_shares(differences, weights), differences, groups, strict=True):
        _, places = np.unique(labels, return_inverse=True)
        sums = np.bincount(places, weights=task.mean(axis=0))
        sizes = np.bincount(places).astype(np.float64)
        for begin in range(0, resamples, _AT_ONCE):
            count = min(_AT_ONCE, resamples - begin)
            drawn = generator.integers(0, sums.size, size=(count, sums.size))
            means[begin : begin + count] += share * sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
