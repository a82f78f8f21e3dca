"""Statistics against scipy, against each other, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.statistics import (
    bootstrap_interval,
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    p_value,
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
    assert p_value([np.full((3, 5), 0.25)]) == 0
    assert p_value([np.zeros((3, 5))]) == 1


def test_with_a_unit_no_interval_is_without_width() -> None:
    result = paired_difference([np.zeros((1, 200))], unit=1.0)
    assert result.mean == 0
    assert result.high == pytest.approx(-result.low)
    assert 0.9 / 200 < result.high < 3 / 200  # the rule of three's bound for one direction is 3 / n
    assert p_value([np.zeros((1, 200))], unit=1.0) == 1


def test_a_unit_hardly_matters_where_many_items_differ() -> None:
    values = np.random.default_rng(9).choice([-1.0, 0.0, 1.0], (1, 500), p=[0.15, 0.6, 0.25])
    plain, with_unit = paired_difference([values]), paired_difference([values], unit=1.0)
    assert with_unit.mean == plain.mean
    assert plain.high < with_unit.high < plain.high + 0.01 * (plain.high - plain.low)


def test_a_group_of_equal_items_counts_as_one_item() -> None:
    values = np.random.default_rng(10).normal(0.2, 1, (3, 40))
    groups = np.repeat(np.arange(40), 5)
    single, repeated = paired_difference([values]), paired_difference([np.repeat(values, 5, axis=1)], clusters=[groups])
    assert (repeated.low, repeated.high) == pytest.approx((single.low, single.high))
    assert p_value([np.repeat(values, 5, axis=1)], clusters=[groups]) == pytest.approx(p_value([values]))


def test_the_order_of_items_and_the_names_of_groups_do_not_matter() -> None:
    rng = np.random.default_rng(11)
    values, groups = rng.normal(0, 1, (2, 90)), rng.integers(0, 20, 90)
    order = rng.permutation(90)
    one = paired_difference([values], clusters=[groups])
    other = paired_difference([values[:, order]], clusters=[1000 - groups[order]])
    assert (other.low, other.high) == pytest.approx((one.low, one.high))


def test_uneven_groups_are_corrected_as_bell_and_mccaffrey_do() -> None:
    """The variance and degrees of freedom of CR2 from dense matrices, for a regression on a constant."""
    rng = np.random.default_rng(3)
    groups = rng.permutation(np.repeat(np.arange(4), (9, 5, 3, 2)))
    values = rng.normal(0, 1, 4)[groups] + rng.normal(0, 1, groups.size)
    n = groups.size
    residual = np.eye(n) - np.full((n, n), 1 / n)  # I - H
    columns = []
    for group in range(4):
        inside = np.flatnonzero(groups == group)
        root, vectors = np.linalg.eigh(residual[np.ix_(inside, inside)])
        adjust = vectors @ np.diag(root**-0.5) @ vectors.T
        columns.append(residual[:, inside] @ adjust @ np.ones(inside.size) / n)
    loadings = np.stack(columns, axis=1)
    variance = float(((values @ loadings) ** 2).sum())
    spread = loadings.T @ loadings
    freedom = np.trace(spread) ** 2 / np.trace(spread @ spread)
    found = paired_difference([values[None]], clusters=[groups])
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, freedom) * np.sqrt(variance))


@pytest.mark.parametrize("unit", [0.0, 1.0])
@pytest.mark.parametrize("sizes", [(30, 30), (40, 40, 40), (80, 10, 10), (60, 20, 10, 10, 10), (25,) * 8])
def test_intervals_over_few_groups_cover_the_truth(sizes: tuple[int, ...], unit: float) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    hits = 0
    for _ in range(1000):
        shared = rng.normal(0, 0.5, len(sizes))[groups]
        found = paired_difference([(shared + rng.normal(0, 0.5, groups.size))[None]], clusters=[groups], unit=unit)
        hits += found.low <= 0 <= found.high
    assert 925 <= hits <= 980


def test_groups_give_the_cluster_robust_error_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(12)
    groups = rng.permutation(np.repeat(np.arange(25), 8))  # of one size: its correction is then ours
    values = rng.normal(0, 1, 25)[groups] + rng.normal(0.2, 1, 200)
    fitted = api.OLS(values, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    result = paired_difference([values[None]], clusters=[groups])
    assert result.standard_error == pytest.approx(fitted.bse[0])
    assert (result.low, result.high) == pytest.approx(tuple(fitted.conf_int()[0]))
    assert p_value([values[None]], clusters=[groups]) == pytest.approx(fitted.pvalues[0], rel=1e-6)


def test_mcnemar_and_holm_are_those_of_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(13)
    found = []
    for _ in range(20):
        ours, theirs = rng.random(60) < 0.6, rng.random(60) < 0.45
        table = [[np.sum(ours & theirs), np.sum(ours & ~theirs)], [np.sum(~ours & theirs), np.sum(~ours & ~theirs)]]
        found.append(mcnemar_exact(ours, theirs))
        assert found[-1] == pytest.approx(tables.mcnemar(table, exact=True).pvalue)
    assert holm(found) == pytest.approx(multipletests(found, method="holm")[1])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_p_value_and_interval_say_the_same(seeds: int) -> None:
    rng = np.random.default_rng(14)
    for shift in np.linspace(0, 0.5, 60):
        data = [shift + rng.normal(0, 0.1, (seeds, 1)) + rng.normal(0, 1, (seeds, 50))]
        result = paired_difference(data)
        assert (p_value(data) < 0.05) == (not result.low <= 0 <= result.high)
        at_p = paired_difference(data, confidence=1 - p_value(data))
        assert min(abs(at_p.low), abs(at_p.high)) == pytest.approx(0, abs=1e-9)


def test_p_value_is_that_of_the_paired_t_test_however_small() -> None:
    values = np.random.default_rng(15).normal(0.1, 1, (1, 50))
    for shift in (0.0, 0.5, 5.0):
        assert p_value([values + shift]) == pytest.approx(stats.ttest_1samp(values[0] + shift, 0).pvalue, rel=1e-6)


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
        (2, 100, 0.0, 0.6, 0.6),
        (2, 100, 0.3, 0.5, 0.5),
        (3, 100, 0.1, 0.6, 0.6),
        (3, 100, 0.0, 0.1, 0.6),
        (3, 100, 0.03, 0.6, 0.0),
        (5, 60, 0.1, 0.3, 1.0),
        (1, 60, 0.0, 0.5, 0.5),
    ],
)
def test_coverage(seeds: int, items: int, seed_sd: float, item_sd: float, both_sd: float) -> None:
    """benchmarks/interval_coverage.py looks at many more settings."""
    rng = np.random.default_rng(3)
    runs = 2000
    covered = 0
    for _ in range(runs):
        result = paired_difference(_experiment(rng, seeds, items, seed_sd, item_sd, both_sd))
        covered += result.low <= 0 <= result.high
    assert 0.93 <= covered / runs <= 0.97


@pytest.mark.parametrize(("items", "differing", "won"), [(125, 0.1, 0.5), (125, 0.2, 0.8), (500, 0.02, 0.8)])
def test_coverage_of_right_and_wrong(items: int, differing: float, won: float) -> None:
    """Also where hardly more than ten items are told apart."""
    rng = np.random.default_rng(7)
    runs = 2500
    truth = differing * (2 * won - 1)
    shares = [differing * won, differing * (1 - won), 1 - differing]
    covered = 0
    for _ in range(runs):
        result = paired_difference([rng.choice([1.0, -1.0, 0.0], size=(1, items), p=shares)], unit=1.0)
        covered += result.low <= truth <= result.high
    assert 0.93 <= covered / runs <= 0.97


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_coverage_of_items_in_groups(alike: float) -> None:
    rng = np.random.default_rng(8)
    runs, groups = 2000, np.repeat(np.arange(60), 4)
    covered = by_item = 0
    for _ in range(runs):
        values = rng.normal(0, np.sqrt(alike), 60)[groups] + rng.normal(0, np.sqrt(1 - alike), 240)
        result = paired_difference([values[None]], clusters=[groups])
        covered += result.low <= 0 <= result.high
        blind = paired_difference([values[None]])
        by_item += blind.low <= 0 <= blind.high
    assert 0.93 <= covered / runs <= 0.97
    assert by_item / runs < 0.93 or alike == 0


def test_items_alone_do_not_cover_seed_noise() -> None:
    """What the seed term is for: without it, an interval that is called 95 % would miss far too often."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(500):
        averaged = [task.mean(axis=0, keepdims=True) for task in _experiment(rng, 3, 100, 0.3, 0.5, 0.5)]
        result = paired_difference(averaged)
        covered += result.low <= 0 <= result.high
    assert covered / 500 < 0.6


def test_bootstrap_of_groups_agrees_with_the_robust_interval() -> None:
    rng = np.random.default_rng(16)
    groups = np.repeat(np.arange(300), rng.integers(1, 5, 300))
    values = rng.normal(0.3, 1, 300)[groups] + rng.normal(0, 0.5, groups.size)
    result = paired_difference([values[None]], clusters=[groups])
    low, high = bootstrap_interval([values[None]], clusters=[groups], generator=np.random.default_rng(0))
    assert (low, high) == pytest.approx((result.low, result.high), abs=0.01)
    blind = bootstrap_interval([values[None]], generator=np.random.default_rng(0))
    assert blind[1] - blind[0] < 0.8 * (high - low)


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(17).exponential(1, 80)
    ours = bootstrap_interval([values[None]], generator=np.random.default_rng(0))
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.015)


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
