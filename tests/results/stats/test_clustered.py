from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import skew

from evalkit.results.stats.clustered import (
    Measured,
    bootstrap,
    clustered_standard_error,
    mean_of_ratios,
    one_stratum,
    standard_error_of_mean,
)
from evalkit.results.stats.error_bars import ends_of, half_width, interval_of, t_quantile, wilson
from evalkit.results.stats.intervals import delta

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=40)


@given(VALUES)
def test_singleton_clusters_give_the_usual_standard_error(values: list[float]) -> None:
    named = {str(i): v for i, v in enumerate(values)}
    mean = sum(values) / len(values)
    usual = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    assert clustered_standard_error(named, {k: k for k in named}) == pytest.approx(usual, abs=1e-9)


@given(VALUES, st.integers(2, 5))
def test_copies_of_sample_in_one_cluster_add_no_certainty(values: list[float], copies: int) -> None:
    single = {str(i): v for i, v in enumerate(values)}
    many = {f"{k}/{c}": v for k, v in single.items() for c in range(copies)}
    once = clustered_standard_error(single, {k: k for k in single})
    assert clustered_standard_error(many, {k: k.split("/")[0] for k in many}) == pytest.approx(once, abs=1e-9)


def test_nominal_coverage() -> None:
    """Clusters of correlated right/wrong answers: the 95 % interval holds the truth about 95 times in a hundred."""
    rng = random.Random(3)
    hits = 0
    for _ in range(400):
        values, clusters = {}, {}
        for image in range(60):
            level = rng.choice((0.2, 0.9))
            for k in range(rng.choice((3, 5))):
                values[f"{image}-{k}"] = 100.0 * (rng.random() < level)
                clusters[f"{image}-{k}"] = str(image)
        mean = sum(values.values()) / len(values)
        width = half_width(clustered_standard_error(values, clusters))
        assert width is not None
        hits += abs(mean - 55.0) <= width
    assert 0.91 <= hits / 400 <= 0.98


@pytest.mark.parametrize("values", [{}, {"a": 1.0}, {"a": 1.0, "b": 0.0}])
def test_fewer_than_two_clusters_have_no_interval(values: dict[str, float]) -> None:
    assert clustered_standard_error(values, dict.fromkeys(values, "one")) is None
    assert half_width(None) is None


@given(VALUES)
def test_second_split_over_same_images_adds_no_certainty(values: list[float]) -> None:
    named = {str(i): v for i, v in enumerate(values)}
    part = (named, {k: k for k in named})
    once = clustered_standard_error(*part)
    assert standard_error_of_mean([part, part]) == pytest.approx(once, abs=1e-9)


def test_splits_over_other_images_are_independent() -> None:
    rng = random.Random(1)
    parts = []
    for split in range(2):
        values = {f"{split}/{i}": rng.random() for i in range(500)}
        parts.append((values, {k: k for k in values}))
    alone = [clustered_standard_error(*part) for part in parts]
    assert None not in alone
    expected = math.sqrt(sum(a * a for a in alone if a is not None)) / 2
    assert standard_error_of_mean(parts) == pytest.approx(expected, rel=2e-3)


def test_mean_without_interval_if_a_stratum_has_none() -> None:
    wide = {"a": 1.0, "b": 0.0}
    part = (wide, {k: k for k in wide})
    assert standard_error_of_mean([part]) is not None
    assert standard_error_of_mean([part, ({"c": 1.0}, {"c": "c"})]) is None
    assert standard_error_of_mean([]) is None


def test_clustered_error_as_statsmodels_computes_it() -> None:
    """statsmodels 0.15.0: OLS(x, 1).fit(cov_type="cluster", use_correction=False).bse · sqrt(G / (G − 1))."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(40), rng.integers(1, 8, 40))
    values = rng.normal(size=len(clusters)) + rng.normal(size=40)[clusters]
    assert one_stratum(values, clusters).standard_error == pytest.approx(0.2375075211467923, rel=1e-12)


@pytest.mark.parametrize(
    ("degrees", "table"),
    [
        (1, 12.70620),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (6, 2.4469),
        (10, 2.2281),
        (30, 2.0423),
        (math.inf, 1.95996),
    ],
)
def test_students_t_quantiles(degrees: float, table: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(table, rel=2e-5)


@pytest.mark.parametrize("degrees", [999, 1000, 4999, 1e6])
@pytest.mark.parametrize("p", [0.025, 0.9, 0.975, 0.995])
def test_students_t_quantiles_without_scipy(degrees: float, p: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(stdtrit(degrees, p), rel=1e-13)


def test_wilson_as_statsmodels_computes_it() -> None:
    """statsmodels 0.15.0: proportion_confint(8, 10, method="wilson"), and (36, 36)."""
    assert wilson(0.8, 10) == pytest.approx((0.49016247153664183, 0.9433178485456247))
    assert wilson(1.0, 36) == (pytest.approx(0.9035813714055363), 1.0)
    assert wilson(0.0, 36) == (0.0, pytest.approx(1 - 0.9035813714055363))


def values_of(right: int, of: int, each: int = 1) -> Measured:
    """``of`` images with ``each`` questions; those of the first ``right`` images are right."""
    names = [str(image) for image in range(of) for _ in range(each)]
    return Measured.of([100.0 * (int(name) < right) for name in names], names)


def test_all_correct_has_an_interval() -> None:
    """About the rule of three, whatever the number of questions about each of the 100 images."""
    for each in (1, 5):
        found = interval_of(values_of(100, 100, each), scale=100.0, seed=0)
        assert found is not None
        assert (found.method, found.half, found.high) == ("wilson", None, 100.0)
        assert found.low == pytest.approx(100 * 100 / 103.84, abs=0.01)
    none = interval_of(values_of(0, 100), scale=100.0, seed=0)
    assert none is not None
    assert (none.low, none.high) == (0.0, pytest.approx(100 * 3.84 / 103.84, abs=0.01))


def test_no_interval_leaves_scale() -> None:
    near = interval_of(values_of(99, 100), scale=100.0, seed=0)
    assert near is not None
    assert near.method == "wilson"
    assert 94 < near.low < 99 < near.high < 100
    middle = interval_of(values_of(70, 100), scale=100.0, seed=0)
    assert middle is not None
    assert (middle.method, middle.half) == ("bootstrap", pytest.approx(9.14, abs=0.01))
    assert (middle.low, middle.high) == (pytest.approx(61, abs=1.01), pytest.approx(79, abs=1.01))


def test_unbounded_scale_without_spread_has_no_interval() -> None:
    assert interval_of(values_of(0, 100), scale=None, seed=0) is None
    assert interval_of(values_of(1, 1), scale=100.0, seed=0) is None
    assert interval_of(Measured.of([], []), scale=100.0, seed=0) is None


# ------------------------------------------------------------------------------------------------------------- repeats


def of_images(values: NDArray[np.float64], counts: NDArray[np.int64]) -> Measured:
    """Values of images with ``counts`` questions each, in order."""
    return Measured(values, np.repeat(np.arange(len(counts)), counts), np.zeros(len(values), dtype=np.int64))


def test_skewness_as_scipy_computes_it() -> None:
    values = np.random.default_rng(4).gamma(1.5, 10.0, 50)
    measured = of_images(values, np.ones(50, dtype=np.int64))
    assert measured.skewness == pytest.approx(float(skew(values)) / math.sqrt(50))
    assert of_images(np.full(50, 7.0), np.ones(50, dtype=np.int64)).skewness == 0.0


def test_interval_over_repeats_solves_halls_equation() -> None:
    rng = np.random.default_rng(5)
    counts = rng.integers(1, 6, 80)
    measured = of_images(100.0 * rng.beta(4.0, 1.0, int(counts.sum())), counts)
    found = interval_of(measured, scale=100.0, seed=0, repeated=True)
    assert found is not None
    assert (found.method, found.half, found.stderr) == ("hall", None, measured.standard_error)
    skewness, quantile = measured.skewness, t_quantile(0.975, 79)
    assert skewness < 0
    for end, transformed in ((found.low, quantile), (found.high, -quantile)):
        t = (measured.mean - end) / measured.standard_error
        cubic = t + skewness / 3 * t**2 + skewness**2 / 27 * t**3 + skewness / 6
        assert cubic == pytest.approx(transformed)
    assert measured.mean - found.low > found.high - measured.mean, "it reaches further to the side of the rare values"


def test_interval_over_repeats_of_few_failures_is_at_most_wilsons() -> None:
    """One question an image: at most one independent sample each."""
    for right in (20, 19, 18, 1, 0):
        values = np.repeat([100.0, 0.0], [right, 20 - right])
        found = interval_of(of_images(values, np.ones(20, dtype=np.int64)), scale=100.0, seed=0, repeated=True)
        size = 20 if right in (0, 20) else 19  # the standard error has 19 degrees of freedom
        low, high = wilson(right / 20, size, t_quantile(0.975, 19))
        assert found is not None
        assert 100 * low <= found.low + 1e-9 < found.high <= 100 * high + 1e-9
        if right in (0, 20):
            assert (found.low, found.high) == pytest.approx((100 * low, 100 * high))


def test_scores_without_a_scale_are_not_corrected() -> None:
    values = np.random.default_rng(4).gamma(1.5, 10.0, 50)
    measured = of_images(values, np.ones(50, dtype=np.int64))
    assert interval_of(measured, scale=None, seed=0, repeated=True) == interval_of(measured, scale=None, seed=0)


def test_interval_over_repeats_covers_a_high_score_of_few_images() -> None:
    """pass@8 of about 90 % with 80 images, where a symmetric interval is missed too often: 800 evaluations."""
    rng = np.random.default_rng(6)

    def evaluation(images: int) -> Measured:
        counts = rng.integers(1, 6, images)
        own = np.repeat(np.clip(rng.beta(1.4, 0.93, images), 1e-6, 1 - 1e-6), counts)
        passed = rng.binomial(8, rng.beta(4 * own, 4 * (1 - own))) > 0
        return of_images(100.0 * passed, counts)

    truth = evaluation(200_000).mean
    hits = {True: 0, False: 0}
    for _ in range(800):
        measured = evaluation(80)
        for repeated in hits:
            ends = ends_of(measured, scale=100.0, repeated=repeated)
            assert ends is not None
            hits[repeated] += ends.low <= truth <= ends.high
    assert hits[True] > hits[False]
    assert 0.93 <= hits[True] / 800 <= 0.98


def test_bootstrap_is_plain_one() -> None:
    """Against index by index.  (By hand, on other such values: the very ends that scipy 1.17.1's bootstrap gives.)"""
    values = np.random.default_rng(5).gamma(1.2, 1.0, 300)
    found = bootstrap(one_stratum(values, np.arange(300)).totals(), seed=0, draws=4_000)
    drawn = values[np.random.default_rng(0).integers(0, 300, size=(4_000, 300))].mean(axis=1)
    assert found == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), rel=0.01)


def test_grouped_bootstrap_has_the_same_distribution() -> None:
    """The quick way (few kinds of clusters) against the plain one, which a hair's difference in each forces."""
    rng = np.random.default_rng(2)
    totals = np.stack([rng.integers(0, 4, 2000) * 100.0, np.full(2000, 3.0)], axis=1)
    unlike = totals + np.linspace(0, 1e-9, 2000)[:, None]
    assert bootstrap(totals, seed=0) == pytest.approx(bootstrap(unlike, seed=1), rel=0.01)


def test_f1_is_ratio_of_sums() -> None:
    """2 · TP over 2 · TP + FP + FN, per image; its interval holds the value, and its error is that of the delta method."""
    rng = np.random.default_rng(3)
    truth, said = rng.random(400) < 0.5, rng.random(400) < 0.6
    both = 2.0 * (truth & said)
    totals = np.stack([both, both + (truth ^ said)], axis=1)
    value = float(mean_of_ratios(totals.sum(axis=0)[None])[0])
    low, high = bootstrap(totals, seed=0) or (0.0, 0.0)
    assert low < value < high
    assert (high - low) / 3.92 == pytest.approx(delta(totals, mean_of_ratios), rel=0.08)


def test_delta_method_gives_clustered_error_of_mean() -> None:
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(50), rng.integers(1, 6, 50))
    measured = one_stratum(100.0 * rng.random(len(clusters)), clusters)
    assert delta(measured.totals(), mean_of_ratios) == pytest.approx(measured.standard_error, rel=1e-6)


def test_resample_without_stratum_is_left_out() -> None:
    found = Measured.of([1.0, 2.0, 3.0, 4.0], list("abcd"), ["x", "x", "y", "y"])
    low, high = bootstrap(found.totals(), seed=0) or (0.0, 0.0)
    assert 1.0 <= low < found.mean == 2.5 < high <= 4.0
