from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.results.stats.clustered import Measured
from evalkit.results.stats.intervals import slopes
from evalkit.results.stats.paired import (
    Difference,
    compare,
    compare_sums,
    detectable,
    holm,
    mcnemar,
    needed,
    permutation,
)


def alone(values: list[float]) -> Measured:
    return Measured.of(values, [str(i) for i in range(len(values))])


def compared(before: list[float], after: list[float]) -> Difference:
    return compare(alone(before), alone(after), seed=0)


def test_every_sign_pattern_by_hand() -> None:
    """Three images that gain 1, 2 and 3: of the 8 patterns only +++ and −−− are as far from 0, and all are ≤ +++."""
    found = permutation(np.array([1.0, 2.0, 3.0]), seed=0)
    assert (found.p, found.worse, found.exact) == (2 / 8, 1.0, True)
    assert permutation(-np.array([1.0, 2.0, 3.0]), seed=0).worse == 1 / 8


def test_permutation_as_scipy_computes_it() -> None:
    """scipy 1.17.1: permutation_test((d,), sum, permutation_type="samples", n_resamples=inf), two-sided and "less"."""
    found = permutation(np.array([1.2, -0.3, 0.5, 2.0, -0.7, 0.9, 1.1, -0.2, 0.4, 0.8]), seed=0)
    assert (found.p, found.worse) == (pytest.approx(SCIPY_TWO_SIDED), pytest.approx(SCIPY_LESS))


SCIPY_TWO_SIDED, SCIPY_LESS = 0.05859375, 0.9765625


@pytest.mark.parametrize("kinds", [3, 400])
def test_random_flips_come_near_normal_approximation(kinds: int) -> None:
    """Both ways of drawing: counted sizes, and signs one by one."""
    rng = np.random.default_rng(0)
    sums = rng.choice(rng.normal(size=kinds), 400) * rng.choice([-1, 1], 400) + 0.0
    found = permutation(sums, seed=1)
    z = abs(sums.sum()) / math.sqrt(float(sums @ sums))
    assert not found.exact
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)
    assert found == permutation(sums, seed=1), "seeded"


@given(st.lists(st.sampled_from([0.0, 30.0, 60.0, 90.0, 100.0]), min_size=1, max_size=40), st.randoms())
def test_swapping_models_swaps_signs(values: list[float], random: object) -> None:
    other = list(reversed(values))
    a, b = compared(values, other), compared(other, values)
    assert a.difference == pytest.approx(-b.difference)
    assert (a.wins, a.losses, a.ties) == (b.losses, b.wins, b.ties)
    assert a.chance.p == pytest.approx(b.chance.p)


def test_no_difference_is_no_certainty() -> None:
    same = compared([100.0, 0.0, 100.0], [100.0, 0.0, 100.0])
    assert (same.difference, same.half, same.low, same.detectable, same.needed) == (0.0, None, None, None, None)
    assert (same.chance.p, same.chance.worse, same.mcnemar) == (1.0, 1.0, 1.0)
    one = compared([100.0], [0.0])
    assert (one.difference, one.stderr, one.half) == (-100.0, None, None)


def test_questions_of_one_image_flip_together() -> None:
    """Ten questions about one image are one observation: the p-value is 1, and there is no standard error."""
    clusters = ["image"] * 10
    found = compare(Measured.of([0.0] * 10, clusters), Measured.of([100.0] * 10, clusters), seed=0)
    assert (found.chance.p, found.stderr) == (1.0, None)
    assert found.mcnemar == pytest.approx(2 / 2**10)


def test_mean_of_halves_weighs_them_alike() -> None:
    """ChartQA: three questions of one half gain 0, the one of the other 100: the difference is 50, not 25."""
    strata = ["human", "human", "human", "augmented"]
    before, after = (Measured.of([0.0, 0.0, 0.0, last], list("abcd"), strata) for last in (0.0, 100.0))
    assert compare(before, after, seed=0).difference == 50.0


def test_mcnemar_by_hand_and_as_statsmodels_computes_it() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    assert mcnemar(12, 31) == pytest.approx(STATSMODELS_12_31, rel=1e-9)
    assert mcnemar(400, 470) == pytest.approx(STATSMODELS_400_470, rel=1e-9)
    assert compared([30.0, 0.0], [60.0, 100.0]).mcnemar is None, "not right or wrong"


STATSMODELS_12_31, STATSMODELS_400_470 = 0.005401572654591291, 0.019267052848609047


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04, 0.2, times 5, 4, 3, 2, 1, never falling; statsmodels' multipletests agrees."""
    assert holm([0.01, 0.04, 0.03, 0.005, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.2])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_sample_sizes() -> None:
    """n = (1.96 + 0.8416)² / d² = 785 for a tenth of a standard deviation (Cohen 1988; statsmodels: 787 with t)."""
    assert detectable(1.0) == pytest.approx(2.8016, abs=1e-4)
    assert detectable(1.0, sides=1) == pytest.approx(2.4865, abs=1e-4)
    assert needed(1000, 1 / math.sqrt(1000), 0.1) == 785
    assert needed(1000, 1.0, 0.0) is None


def test_no_fewer_images_than_permutation_test_can_use() -> None:
    """2 / 2^5 > 0.05 ≥ 2 / 2^6: six images must differ; for a difference of many standard errors that decides."""
    assert needed(128, 0.01, 50.0) == 6
    assert needed(128, 0.01, 50.0, clusters=32) == 24, "four samples each"
    assert needed(128, 0.01, 50.0, sides=1) == 5
    assert needed(128, 0.01, 50.0, alpha=0.05 / 4) == 8
    assert permutation(np.ones(5), seed=0).p > 0.05 >= permutation(np.ones(6), seed=0).p


def test_power_is_lower_under_a_correction() -> None:
    """(z₁₋₀.₀₁₂₅/₂ + z₀.₈) · stderr = (2.4977 + 0.8416) · stderr."""
    rng = np.random.default_rng(0)
    found = compared(list(rng.normal(size=50)), list(rng.normal(size=50)))
    assert found.stderr is not None
    assert found.detectable == pytest.approx(2.8016 * found.stderr, rel=1e-4)
    assert found.at(0.05 / 4).detectable == pytest.approx(3.3393 * found.stderr, rel=1e-4)
    assert compared([1.0], [0.0]).at(0.01).detectable is None


def f1(sums: np.ndarray) -> np.ndarray:
    """(draws, 3): true positives, false positives, false negatives → (draws,)."""
    return 200 * sums[:, 0] / (2 * sums[:, 0] + sums[:, 1] + sums[:, 2])


def by_swapping(base: np.ndarray, candidate: np.ndarray, flips: int) -> float:
    """The p-value of the exact permutation test, which exchanges the two answers to samples at random."""
    rng = np.random.default_rng(1)
    seen = abs(float(f1(candidate.sum(0)[None])[0] - f1(base.sum(0)[None])[0]))
    swapped = rng.integers(0, 2, size=(flips, len(base)))
    change = swapped @ (base - candidate)
    found = np.abs(f1(candidate.sum(0) + change) - f1(base.sum(0) - change))
    return float((1 + np.count_nonzero(found >= seen - 1e-9)) / (1 + flips))


@pytest.mark.parametrize("seed", range(4))
def test_functions_of_sums_are_tested_as_by_swapping_answers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(400) < 0.5
    says = [np.where(rng.random(400) < right, truth, ~truth) for right in (0.85, 0.85 + 0.02 * seed)]
    base, candidate = (np.stack([said & truth, said & ~truth, ~said & truth], axis=1).astype(float) for said in says)
    values = [float(f1(one.sum(0)[None])[0]) for one in (base, candidate)]
    tangents = np.stack([slopes(one.sum(0), f1) for one in (base, candidate)])
    samples = Measured.of([0.0] * 400, [str(n) for n in range(400)])
    found = compare_sums(candidate - base, tangents, samples, *values, seed=0)
    assert found.difference == pytest.approx(values[1] - values[0])
    assert found.ties == int((says[0] == says[1]).sum())
    assert found.chance.p == pytest.approx(by_swapping(base, candidate, 9_999), abs=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high


def test_functions_of_sums_without_a_change_and_with_too_large_a_one() -> None:
    samples = Measured.of([0.0] * 3, ["a", "b", "c"])
    same = compare_sums(np.zeros((3, 2)), np.ones((2, 2)), samples, 50.0, 50.0, seed=0)
    assert (same.difference, same.chance.p, same.ties) == (0, 1, 3)
    far = compare_sums(np.ones((3, 2)), np.zeros((2, 2)), samples, 0.0, 50.0, seed=0)
    assert not far.chance.tested
    assert far.difference == 50
