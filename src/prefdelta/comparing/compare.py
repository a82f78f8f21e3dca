"""Comparing two runs item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from prefdelta.comparing.joining import Joined, Side, join
from prefdelta.comparing.runs import Run
from prefdelta.evaluation.bootstrap import bootstrap_interval
from prefdelta.evaluation.statistics import (
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    p_value,
    paired_difference,
)

_POINTS = 100.0


@dataclass(frozen=True)
class BenchmarkComparison:
    """One benchmark; differences are the second run minus the first, in percentage points.

    Attributes:
        task: its name; ``None`` stands for the mean over the benchmarks.
        items: how many items both answered.
        clusters: in how many groups these lie; equal to ``items`` if each stands for itself.
        seeds: how many training seeds were averaged in each item.
        first: the first run.
        second: the second run.
        difference: of the mean scores.
        low: lower end of its 95 % interval.
        high: upper end.
        bootstrap: the percentile bootstrap interval over items, 10,000 resamples, as a second opinion.
        p: two-sided, of "no difference".
        test: ``mcnemar`` (exact) where every score is 0 or 1 and there is one seed and no group, else ``interval``:
            the level at which the interval touches 0.
        p_holm: ``p`` corrected for the number of benchmarks.
        detectable: the smallest true difference that would be found, 95 % interval off 0, four times in five.
    """

    task: str | None
    items: int
    clusters: int
    seeds: int
    first: Side
    second: Side
    difference: float
    low: float
    high: float
    bootstrap: tuple[float, float]
    p: float
    test: str
    p_holm: float
    detectable: float


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same items."""

    first: str
    second: str
    benchmarks: tuple[BenchmarkComparison, ...]
    overall: BenchmarkComparison | None


def compare(first: Run, second: Run) -> Comparison:
    """Compare two runs, paired by (task, item).

    Every benchmark gets a difference (second minus first) with its 95 % interval and a p-value; the p-values are
    corrected for the number of benchmarks (Holm). With several benchmarks, their mean is compared as well, each
    benchmark weighing the same. Training seeds are averaged within items first; the interval covers their noise.

    Raises:
        PrefdeltaError: the runs did not answer the same items, or not in the same way (prompt or scorer differ).
    """
    joined = join(first, second)
    rows = [_compared(task, [pairs]) for task, pairs in joined.items()]
    adjusted = holm([row["p"] for row in rows])
    benchmarks = tuple(BenchmarkComparison(**row, p_holm=p) for row, p in zip(rows, adjusted, strict=True))
    overall = None
    if len(benchmarks) > 1:
        whole = _compared(None, list(joined.values()))
        overall = BenchmarkComparison(**whole, p_holm=whole["p"])
    return Comparison(first.name, second.name, benchmarks, overall)


def _compared(task: str | None, parts: Sequence[Joined]) -> dict[str, Any]:
    differences = [_POINTS * (part.second - part.first) for part in parts]
    clusters = [part.clusters for part in parts]
    groups = sum(len(set(labels.tolist())) for labels in clusters)
    items = sum(part.first.shape[1] for part in parts)
    estimate = paired_difference(differences, clusters=clusters, unit=_POINTS)
    binary = len(parts) == 1 and estimate.seeds == 1 and groups == items and parts[0].binary
    return {
        "task": task,
        "items": items,
        "clusters": groups,
        "seeds": estimate.seeds,
        "first": _mean([part.sides[0] for part in parts]),
        "second": _mean([part.sides[1] for part in parts]),
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "bootstrap": bootstrap_interval(differences, clusters=clusters, generator=np.random.default_rng(0)),
        "p": mcnemar_exact(parts[0].second[0] > 0.5, parts[0].first[0] > 0.5)
        if binary
        else p_value(differences, clusters=clusters, unit=_POINTS),
        "test": "mcnemar" if binary else "interval",
        "detectable": minimum_detectable_effect(estimate),
    }


def _mean(sides: Sequence[Side]) -> Side:
    return Side(*(float(np.mean(column)) for column in zip(*map(astuple, sides), strict=True)))
