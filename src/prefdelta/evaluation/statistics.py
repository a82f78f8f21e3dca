"""Statistics of comparisons that are paired item by item.

A benchmark score is a mean over strata (tasks) of the mean over a stratum's items, so that a task counts the same
however many items it has. All functions take the paired differences per stratum, or matching pairs of outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from prefdelta.core.errors import PrefdeltaError

Array = NDArray[np.float64]
Clusters = Sequence[NDArray[np.int64]]

_AT_ONCE = 500  # bootstrap resamples; bounds memory


@dataclass(frozen=True)
class Difference:
    """A mean paired difference and its confidence interval ``[low, high]``, in the units of the scores.

    ``seed_noise`` says whether the interval covers the noise of training seeds. With one seed it cannot: it then
    holds for this one trained model, not for training again.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    seeds: int
    items: int
    seed_noise: bool


def paired_difference(
    differences: Sequence[Array],
    *,
    weights: Sequence[float] | None = None,
    clusters: Clusters | None = None,
    unit: float = 0.0,
    confidence: float = 0.95,
) -> Difference:
    r"""The mean of paired per-item differences over tasks and training seeds, with a confidence interval.

    With differences d[s, t, i] of seed s on item i of task t (n_t items, weight w_t, S seeds) the estimate is the
    mean over seeds of D_s = sum_t w_t mean_i d[s, t, i]. Its error comes from the items and from the seeds:

        V_items = sum_t v_t,  v_t = w_t^2 s_t^2 / n_t      s_t^2: variance over items of the seed-averaged differences
        f_items = V_items^2 / sum_t v_t^2 / (n_t - 1)      (Welch and Satterthwaite)
        V_seeds = s_D^2 / S,  f_seeds = S - 1              s_D^2: variance over seeds of D_s; 0 if S = 1
        V_both  = sum_t w_t^2 r_t^2 / (S n_t)              r_t^2: mean square of the residuals d - seed - item + mean

    How an item's difference varies from seed to seed (V_both) is part of V_items and of V_seeds and is counted once:
    A = max(0, V_items - V_both) is due to the items alone, and the variance of the mean is A + V_seeds. The interval
    is mean +- m, with Student's quantiles q = t(f_items) and t = t(f_seeds), and

        m^2 = q^2 (A + V_seeds)  +  (t^2 - q^2) V_seeds^2 / (V_seeds + A / 2).

    The second term is what is paid for knowing V_seeds from S seeds only. It vanishes where the items dominate, and
    where the seeds do, m = t sqrt(V_seeds). For normal errors and many items the 95 % interval covers 93.6 to 96.9 %
    with two seeds, whatever the ratio of A to V_seeds, and 94.7 to 96.1 % with three or more. The usual choices do not
    stay in that range: with two seeds Satterthwaite's degrees of freedom for the sum cover down to 87 %, margins added
    in quadrature (MOVER, Zou and Donner 2008) up to 99 %. With one seed and one task this is the paired t interval,
    with one seed and two tasks Welch's. ``benchmarks/interval_coverage.py`` measures it.

    Args:
        differences: one array per task, (seeds, items of the task), paired: the same item in the same place.
        weights: of the tasks, summing to 1; equal if left out.
        clusters: for each task, the number of each item's cluster (its passage, its conversation). Errors may then be
            alike within a cluster: deviations are summed to u_g within cluster g before they are squared (Liang and
            Zeger 1986). Few clusters, or uneven ones, are corrected for as Bell and McCaffrey (2002) do ("CR2"): with
            p_g the cluster's share of the items,

                v_t = w_t^2 / n_t^2 sum_g u_g^2 / (1 - p_g)

                1 / f_t = sum_g p_g^2 + sum_{g != h} a_g a_h,  a_g = p_g^2 / (1 - p_g)

            and f_t takes the place of n_t - 1; with equal clusters it is their number minus 1. The 95 % interval then
            covers the truth 93 to 97 % of the time from two clusters on, where the sum alone covers down to 70 %. Where
            one of 14 clusters holds half of the items and clusters do not matter, it is 97.5 %. The exact quantile for
            that case is no remedy: it covers 91 % as soon as the cluster explains 2 % of an item's variance.
        unit: the largest difference one item can show, 1 for scores in [0, 1]. If given, half an item that differs by
            ``unit`` is added in each direction to the variance, but not to the mean, as Agresti and Min (2005) do.
            Where only a handful of items differ this keeps the interval from being too narrow, and from having no
            width where none does. 0 adds nothing. With clusters, whose few degrees of freedom would blow this up, it is
            the least variance instead of an added one.
        confidence: the nominal coverage.

    Raises:
        PrefdeltaError: a task has fewer than two items or clusters, so that no interval exists.
    """
    mean, errors = _estimate(differences, weights, clusters, unit)
    margin = errors.margin(1 - confidence)
    return Difference(
        mean=mean,
        low=mean - margin,
        high=mean + margin,
        standard_error=math.sqrt(errors.total),
        seeds=differences[0].shape[0],
        items=sum(d.shape[1] for d in differences),
        seed_noise=differences[0].shape[0] > 1,
    )


def p_value(
    differences: Sequence[Array],
    *,
    weights: Sequence[float] | None = None,
    clusters: Clusters | None = None,
    unit: float = 0.0,
) -> float:
    """The two-sided p-value of "no difference" that belongs to :func:`paired_difference`.

    It is the level at which the interval just touches 0: below 0.05 exactly where the 95 % interval leaves 0 out. Less
    than 1e-130 is given as 0.
    """
    mean, errors = _estimate(differences, weights, clusters, unit)
    if mean == 0:
        return 1.0
    low, high = -300.0, 0.0  # of ln p; the margin falls as the level rises
    if errors.margin(math.exp(low)) < abs(mean):
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if errors.margin(math.exp(middle)) > abs(mean) else (low, middle)
    return math.exp(high)


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
    _checked_seeds(differences)
    means = np.zeros(resamples)
    groups = clusters or [np.arange(task.shape[1]) for task in differences]
    for share, task, labels in zip(_task_shares(differences, weights), differences, groups, strict=True):
        _, places = np.unique(labels, return_inverse=True)
        sums = np.bincount(places, weights=task.mean(axis=0))
        sizes = np.bincount(places).astype(np.float64)
        for begin in range(0, resamples, _AT_ONCE):
            count = min(_AT_ONCE, resamples - begin)
            drawn = generator.integers(0, sums.size, size=(count, sums.size))
            means[begin : begin + count] += share * sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mcnemar_exact(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """The two-sided p-value of McNemar's exact test: a binomial test on the items where two systems disagree.

    Returns 1 where they never disagree.
    """
    wins = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    losses = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    if wins + losses == 0:
        return 1.0
    # The binomial is symmetric at one half, so both tails are twice the smaller one.
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, in their order (Holm 1979): the family-wise error rate is kept."""
    adjusted = [1.0] * len(p_values)
    reached = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = reached
    return adjusted


def minimum_detectable_effect(difference: Difference, *, power: float = 0.8) -> float:
    """The smallest true difference whose interval, at this precision, would exclude 0 with this probability.

    Half the interval's width plus z(power) standard errors.
    """
    margin = (difference.high - difference.low) / 2
    return margin + float(special.ndtri(power)) * difference.standard_error


class _Errors(NamedTuple):
    """Where the error of a mean comes from: the variance due to items alone and that due to seeds.

    ``floor`` is a variance below which it is not believed, with a normal distribution.
    """

    items: float
    item_freedom: float
    seeds: float
    seed_freedom: float
    floor: float

    @property
    def total(self) -> float:
        """The variance of the mean."""
        return max(self.items + self.seeds, self.floor)

    def margin(self, level: float) -> float:
        """Half the width of the interval that misses with probability ``level``."""
        return max(self._margin(level), _quantile(math.inf, level) * math.sqrt(self.floor))

    def _margin(self, level: float) -> float:
        total = self.items + self.seeds
        if total == 0:
            return 0.0
        q = _quantile(self.item_freedom, level) ** 2
        if self.seeds == 0:
            return math.sqrt(q * total)
        t = _quantile(self.seed_freedom, level) ** 2
        return math.sqrt(q * total + (t - q) * self.seeds**2 / (self.seeds + self.items / 2))


def _quantile(freedom: float, level: float) -> float:
    """Student's, above which ``level / 2`` of the probability lies."""
    return -float(special.stdtrit(freedom, level / 2) if freedom < 1e9 else special.ndtri(level / 2))


def _estimate(
    differences: Sequence[Array], weights: Sequence[float] | None, clusters: Clusters | None, unit: float
) -> tuple[float, _Errors]:
    seeds = _checked_seeds(differences)
    shares = _task_shares(differences, weights)
    groups: Sequence[NDArray[np.int64] | None] = clusters or [None] * len(differences)
    per_seed = sum((w * d.mean(axis=1) for w, d in zip(shares, differences, strict=True)), np.zeros(seeds))
    items = spread = both = floor = 0.0
    for share, task, labels in zip(shares, differences, groups, strict=True):
        averaged = task.mean(axis=0)
        grouping = _grouping(averaged.size, labels)
        scale = (share / averaged.size) ** 2
        squares = (_summed(averaged - averaged.mean(), grouping.places) ** 2).reshape(-1)
        if unit and grouping.places is None:
            part = scale * (float(squares.sum()) + unit**2)
        else:
            part = scale * float((squares * grouping.correction).sum())
            floor += scale * unit**2
        items += part
        spread += part**2 / grouping.freedom
        if seeds > 1:
            rest = task - task.mean(axis=1, keepdims=True) - averaged + averaged.mean()
            corrected = _summed(rest, grouping.places) ** 2 * grouping.correction
            both += scale * float(corrected.sum()) / ((seeds - 1) * seeds)
    seed_part = float(per_seed.var(ddof=1) / seeds) if seeds > 1 else 0.0
    freedom = items**2 / spread if spread > 0 else math.inf
    return float(per_seed.mean()), _Errors(max(0.0, items - both), freedom, seed_part, seeds - 1, floor)


class _Grouping(NamedTuple):
    """How a task's items fall in clusters.

    ``places`` numbers each item's cluster, ``None`` where each item stands for itself; ``correction`` is 1 / (1 - p)
    of each cluster's share p of the items; ``freedom`` are Bell and McCaffrey's degrees of freedom.
    """

    places: NDArray[np.int64] | None
    correction: Array | float
    freedom: float


def _grouping(items: int, labels: NDArray[np.int64] | None) -> _Grouping:
    if labels is None:
        return _Grouping(None, items / (items - 1), items - 1)
    _, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if sizes.size == items:
        return _grouping(items, None)
    if sizes.size < 2:
        raise PrefdeltaError("all items of a task are in one cluster, so no interval can be given.")
    share = sizes / items
    weight = share**2 / (1 - share)
    inverse = float((share**2).sum() + weight.sum() ** 2 - (weight**2).sum())
    return _Grouping(places, 1 / (1 - share), 1 / inverse)


def _summed(values: Array, places: NDArray[np.int64] | None) -> Array:
    """Sums over the last axis within clusters; without clusters the values themselves."""
    if places is None:
        return values
    return np.stack([np.bincount(places, weights=row) for row in values.reshape(-1, places.size)])


def _checked_seeds(differences: Sequence[Array]) -> int:
    """The number of seeds of paired differences."""
    if not differences or any(task.ndim != 2 or task.shape[0] != differences[0].shape[0] for task in differences):
        raise ValueError("differences must be arrays (seeds, items) with the same number of seeds")
    if min(task.shape[1] for task in differences) < 2:
        raise PrefdeltaError("a task has fewer than two items, so no interval can be given; raise its 'test' count.")
    return differences[0].shape[0]


def _task_shares(differences: Sequence[Array], weights: Sequence[float] | None) -> Sequence[float]:
    """The weights of the tasks; equal if none are given."""
    if weights is None:
        return [1 / len(differences)] * len(differences)
    if len(weights) != len(differences) or not math.isclose(sum(weights), 1):
        raise ValueError("weights must be one per task and sum to 1")
    return weights
