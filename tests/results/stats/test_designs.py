"""Estimates from stratified samples: against the textbook's formulas, and in repeated draws."""

from __future__ import annotations

import itertools
import math
from itertools import combinations

import numpy as np
import pytest

from evalkit.results.stats.designs import Estimate, Strata, allocate, cut, estimate, needed_size, skewness, variances


def strata(sizes: list[float], totals: list[list[float]] | None = None) -> Strata:
    columns = np.array(totals if totals is not None else [[] for _ in sizes], dtype=float).reshape(len(sizes), -1)
    return Strata(np.array(sizes, dtype=float), columns, np.ones(len(sizes)))


def test_one_stratum_gives_the_mean_and_its_standard_error_with_the_finite_population_correction() -> None:
    values = np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
    found = estimate(strata([20]), np.zeros(8, dtype=np.int64), values, np.empty((8, 0)))
    assert found.value == pytest.approx(20 * values.mean())
    expected = values.var(ddof=1)
    assert found.sampling == pytest.approx(20**2 * expected / 8, rel=0.02)  # the prior is the sample's own variance
    assert found.stderr == pytest.approx(20 * math.sqrt(expected / 8 * (1 - 8 / 20)), rel=0.02)


def test_strata_are_weighted_by_their_sizes() -> None:
    stratum = np.array([0, 0, 1, 1])
    found = estimate(strata([90, 10]), stratum, np.array([1.0, 1, 0, 0]), np.empty((4, 0)))
    assert found.value == pytest.approx(90)


def test_covariate_that_gives_the_values_leaves_no_error() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(50)
    found = estimate(strata([50], [[x.sum()]]), np.zeros(10, dtype=np.int64), 7 + 3 * x[:10], x[:10, None])
    assert found.value == pytest.approx(50 * 7 + 3 * x.sum())
    assert found.stderr == pytest.approx(0, abs=1e-6)


def test_equal_values_do_not_claim_certainty() -> None:
    """100 right answers do not show that all of 5,000 are right: the rule of three."""
    known = Strata(np.array([5000.0]), np.empty((1, 0)), np.ones(1), largest=(100 / 5000) ** 2)
    found = estimate(known, np.zeros(100, dtype=np.int64), np.full(100, 100 / 5000), np.empty((100, 0)))
    low, high = found.interval(100.0)
    assert high == 100
    assert 95 < low < 98


@pytest.mark.parametrize("covariates", [0, 1])
def test_expected_variance_is_that_of_repeated_draws(covariates: int) -> None:
    rng = np.random.default_rng(1)
    stratum = np.repeat([0, 1, 2], [60, 90, 150])
    x = rng.normal(size=300)
    values = 2.0 * stratum + x + rng.normal(size=300) * (1 + stratum)
    columns = x[:, None][:, :covariates]
    drawn = np.array([10, 20, 30])
    totals = [[column[stratum == h].sum() for column in columns.T] for h in range(3)]
    known = strata([60, 90, 150], totals)
    errors = []
    for _ in range(2000):
        units = np.concatenate([rng.choice(np.flatnonzero(stratum == h), drawn[h], replace=False) for h in range(3)])
        errors.append(estimate(known, stratum[units], values[units], columns[units]).value - values.sum())
    sampling, noise = variances(stratum, drawn, values, columns)
    assert np.mean(errors) == pytest.approx(0, abs=3 * math.sqrt((sampling - noise) / 2000) + 0.5)
    assert np.var(errors) == pytest.approx(sampling - noise, rel=0.1)


def test_expected_skewness_is_that_of_all_draws() -> None:
    stratum, drawn = np.repeat([0, 1], [6, 5]), np.array([2, 2])
    values = np.array([0.0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1])
    first, second = (list(combinations(np.flatnonzero(stratum == h), 2)) for h in (0, 1))
    estimates = np.array(
        [3 * values[list(one)].sum() + 2.5 * values[list(two)].sum() for one in first for two in second]
    )
    off = estimates - estimates.mean()
    found = skewness(stratum, drawn, values, np.empty((11, 0)))
    assert found == pytest.approx((off**3).mean() / (off**2).mean() ** 1.5)


def test_cut_separates_what_is_certain_from_what_is_not() -> None:
    """Groups 0 and 4 have hardly any variance, 1 to 3 have the same much: with three strata these share one."""
    group = np.repeat(np.arange(5), [500, 10, 20, 10, 500])
    expected = np.repeat([0.0, 0.5, 0.5, 0.5, 1.0], [500, 10, 20, 10, 500])
    variance = expected * (1 - expected) + 1e-4
    stratum = cut(group, np.ones(len(group)), expected, variance, 3)
    assert stratum[np.searchsorted(group, range(5))].tolist() == [0, 1, 1, 1, 2]
    assert set(cut(group, np.ones(len(group)), expected, variance, 8)) == set(range(5))
    assert set(cut(np.zeros(9, dtype=np.int64), np.ones(9), np.ones(9), np.ones(9), 4)) == {0}


def test_cut_is_the_best_of_all_cuts() -> None:
    rng = np.random.default_rng(0)
    mass, mean, variance = rng.random((3, 7))

    def error(stratum: np.ndarray) -> float:
        found = 0.0
        for one in set(stratum):
            own = stratum == one
            centre = np.average(mean[own], weights=mass[own])
            found += math.sqrt(mass[own].sum() * (mass[own] * (variance[own] + (mean[own] - centre) ** 2)).sum())
        return found

    cuts = [np.searchsorted(edges, np.arange(7), side="right") for edges in itertools.combinations(range(1, 7), 2)]
    assert error(cut(np.arange(7), mass, mean, variance, 3)) == pytest.approx(min(map(error, cuts)))


def test_interval_near_the_end_of_the_scale_is_wilsons_and_not_wider_than_of_random_samples() -> None:
    """99.5 estimated with the error that a hundred samples have, and more than half that of fifty."""
    one = Estimate(99.5, sampling=1.44, noise=0.0, degrees=90, units=100, misfit=1.0, misfit_error=0.1)
    low, high = one.interval(100.0)
    assert 94 < low < 97
    assert 99.5 < high < 100
    middle = Estimate(50.0, sampling=25.0, noise=0.0, degrees=90, units=100, misfit=1.0, misfit_error=0.1)
    assert middle.interval(100.0) == pytest.approx((50 - middle.half(), 50 + middle.half()))


def test_allocation_follows_size_and_spread_within_what_there_is() -> None:
    assert allocate(100, np.array([1000.0, 1000]), np.array([1.0, 9])).tolist() == [25, 75]
    assert allocate(100, np.array([20.0, 1000]), np.array([100.0, 0.01])).tolist() == [20, 80]
    assert allocate(10, np.array([1.0, 500, 500]), np.array([1.0, 1, 0])).tolist() == [1, 7, 2]


def test_needed_size() -> None:
    assert needed_size(lambda size: 10 / math.sqrt(size), 1.0, 5000) == 100
    assert needed_size(lambda size: 10 / math.sqrt(size), 0.01, 5000) is None
