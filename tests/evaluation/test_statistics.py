"""Statistics against scipy, against each other, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from prefdelta.errors import PrefdeltaError
from prefdelta.evaluation.statistics import (
    bootstrap_interval,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_difference,
)


def test_one_task_and_one_seed_is_the_paired_t_test() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 40)
    result = paired_difference([values[None]])
    reference = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((reference.low, reference.high))
    assert not result.seed_noise


def test_two_tasks_are_welch() -> None:
    """The mean of two tasks' means has the Welch interval of half their difference, one of them negated."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 1, 30), rng.normal(0, 3, 12)
    result = paired_difference([a[None], b[None]])
    reference = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((reference.low / 2, reference.high / 2))


def test_seeds_without_item_noise_are_a_t_test_over_seeds() -> None:
    per_seed = np.array([1.0, 2.0, 4.0])
    result = paired_difference([np.repeat(per_seed[:, None], 50, axis=1)])
    reference = stats.ttest_1samp(per_seed, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((reference.low, reference.high))
    assert result.seed_noise


def test_seed_noise_widens_the_interval() -> None:
    rng = np.random.default_rng(2)
    quiet = np.repeat(rng.normal(0, 1, (1, 200)), 3, axis=0)
    noisy = quiet + np.array([[-0.5], [0.0], [0.5]])
    assert paired_difference([noisy]).mean == pytest.approx(paired_difference([quiet]).mean)
    assert paired_difference([noisy]).high > paired_difference([quiet]).high


def test_a_task_counts_the_same_however_many_items_it_has() -> None:
    result = paired_difference([np.array([[1.0, 1.0]]), np.zeros((1, 98))])
    assert result.mean == pytest.approx(0.5)


def test_equal_differences_give_the_mean_itself() -> None:
    result = paired_difference([np.full((3, 5), 0.25)])
    assert (result.low, result.mean, result.high) == (0.25, 0.25, 0.25)


def test_one_item_has_no_interval() -> None:
    with pytest.raises(PrefdeltaError, match="fewer than two items"):
        paired_difference([np.zeros((2, 1))])


def _experiment(
    rng: np.random.Generator, seeds: int, items: int, seed_sd: float, item_sd: float, both_sd: float
) -> list[np.ndarray]:
    """Two tasks; every difference has expectation 0."""
    seed = rng.normal(0, seed_sd, (seeds, 1))
    return [seed + rng.normal(0, item_sd, (1, n)) + rng.normal(0, both_sd, (seeds, n)) for n in (items, 2 * items)]


@pytest.mark.parametrize(
    ("seeds", "items", "seed_sd", "item_sd", "both_sd"),
    [
        (3, 100, 0.1, 0.6, 0.6),
        (3, 100, 0.0, 0.6, 0.6),
        (3, 100, 0.3, 0.5, 0.5),
        (5, 60, 0.1, 0.3, 1.0),
        (1, 60, 0.0, 0.5, 0.5),
    ],
)
def test_coverage(seeds: int, items: int, seed_sd: float, item_sd: float, both_sd: float) -> None:
    rng = np.random.default_rng(3)
    runs = 2000
    covered = 0
    for _ in range(runs):
        result = paired_difference(_experiment(rng, seeds, items, seed_sd, item_sd, both_sd))
        covered += result.low <= 0 <= result.high
    assert 0.93 <= covered / runs <= 0.99


def test_items_alone_do_not_cover_seed_noise() -> None:
    """What the seed term is for: without it, an interval that is called 95 % would miss far too often."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(500):
        averaged = [task.mean(axis=0, keepdims=True) for task in _experiment(rng, 3, 100, 0.3, 0.5, 0.5)]
        result = paired_difference(averaged)
        covered += result.low <= 0 <= result.high
    assert covered / 500 < 0.6


def test_bootstrap_agrees_with_t_on_many_items() -> None:
    rng = np.random.default_rng(5)
    differences = [rng.choice([-1.0, 0.0, 1.0], (1, 800), p=[0.1, 0.6, 0.3]), rng.normal(0, 1, (1, 500))]
    result = paired_difference(differences)
    low, high = bootstrap_interval(differences, generator=np.random.default_rng(0))
    assert (low, high) == pytest.approx((result.low, result.high), abs=0.006)
    assert bootstrap_interval(differences, generator=np.random.default_rng(0)) == (low, high)


def test_mcnemar_is_a_binomial_test_on_the_discordant_items() -> None:
    ours = [True] * 30 + [False] * 10 + [True] * 50 + [False] * 5
    theirs = [False] * 30 + [True] * 10 + [True] * 50 + [False] * 5
    assert mcnemar_exact(ours, theirs) == pytest.approx(stats.binomtest(30, 40, 0.5).pvalue)
    assert mcnemar_exact(ours, theirs) == pytest.approx(mcnemar_exact(theirs, ours))
    assert mcnemar_exact(ours, ours) == 1.0


def test_minimum_detectable_effect_has_its_power() -> None:
    rng = np.random.default_rng(6)
    base = paired_difference([rng.normal(0, 1, (1, 400))])
    effect = minimum_detectable_effect(base)
    found = sum(paired_difference([rng.normal(effect, 1, (1, 400))]).low > 0 for _ in range(2000))
    assert 0.76 <= found / 2000 <= 0.84
