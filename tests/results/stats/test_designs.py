"""Estimates from stratified samples: against the textbook's formulas, and in repeated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evalkit.results.stats.designs import Strata, allocate, cut, estimate, needed_size, variances


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


def test_cut_keeps_equal_values_together() -> None:
    order = np.repeat([0.0, 0.5, 1.0], [500, 10, 500])
    edges = cut(order, np.ones(len(order)), 8)
    stratum = np.searchsorted(edges, order)
    assert {len(set(stratum[order == value])) for value in (0, 0.5, 1)} == {1}
    assert len(cut(np.zeros(9), np.ones(9), 4)) == 0


def test_allocation_follows_size_and_spread_within_what_there_is() -> None:
    assert allocate(100, np.array([1000.0, 1000]), np.array([1.0, 9])).tolist() == [25, 75]
    assert allocate(100, np.array([20.0, 1000]), np.array([100.0, 0.01])).tolist() == [20, 80]
    assert allocate(10, np.array([1.0, 500, 500]), np.array([1.0, 1, 0])).tolist() == [1, 7, 2]


def test_needed_size() -> None:
    assert needed_size(lambda size: 10 / math.sqrt(size), 1.0, 5000) == 100
    assert needed_size(lambda size: 10 / math.sqrt(size), 0.01, 5000) is None
