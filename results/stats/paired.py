"""Paired comparison of two scores over the same samples: difference, permutation test and power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from .clustered import CHUNK_SIZE, Floats, Measured, bootstrap
from .error_bars import half_width

EXACT_UP_TO = 16  # clusters that differ: 65,536 sign patterns
FLIPS = 9_999
POWER = 0.80
ALPHA = 0.05


@dataclass(frozen=True)
class PermutationTest:
    """The p-values of a paired permutation test.

    Attributes:
        p: two-sided; NaN if nothing was tested.
        worse: one-sided, for a loss.
        exact: whether all sign patterns were enumerated, not 9,999 random ones.
    """

    p: float
    worse: float
    exact: bool

    @property
    def tested(self) -> bool:
        return not math.isnan(self.p)


@dataclass(frozen=True)
class Difference:
    """A candidate against a base over the same samples; all in the metric's unit, gains positive.

    Attributes:
        stderr: clustered; None for fewer than two clusters.
        half: half of the 95 % interval (t); None also if no sample differs, which is not certainty.
        low: the bootstrap's interval, with ``high``.
        mcnemar: McNemar's exact p-value, for right/wrong scores only; ignores clusters.
        detectable: the smallest true difference that a two-sided test detects with 80 % power, at 5 % or its share of
            it after correction.
        needed: the number of samples (with as many per cluster as here) to detect a true difference of this size so.
    """

    n: int
    clusters: int
    base: float
    candidate: float
    difference: float
    stderr: float | None
    half: float | None
    low: float | None
    high: float | None
    chance: PermutationTest
    mcnemar: float | None
    wins: int
    losses: int
    ties: int
    detectable: float | None
    needed: int | None

    def at(self, alpha: float) -> Difference:
        """With ``detectable`` and ``needed`` for a test at ``alpha``."""
        if not self.stderr:
            return self
        samples = needed(self.n, self.stderr, self.difference, alpha=alpha, clusters=self.clusters)
        return replace(self, detectable=detectable(self.stderr, alpha=alpha), needed=samples)


def untested(base: float, candidate: float, n: int, clusters: int) -> Difference:
    """The difference of two scores that are not means of per-sample scores: without interval and test."""
    return Difference(
        n=n, clusters=clusters, base=base, candidate=candidate, difference=candidate - base, stderr=None, half=None,
        low=None, high=None, chance=PermutationTest(math.nan, math.nan, False), mcnemar=None, wins=0, losses=0, ties=0,
        detectable=None, needed=None,
    )  # fmt: skip


def compare(base: Measured, candidate: Measured, *, seed: int) -> Difference:
    """Compare two scores; both have the same samples in the same order, with the same clusters and strata."""
    gains = Measured(candidate.values - base.values, base.clusters, base.strata)
    found = _of_gains(gains, base.mean, candidate.mean, seed)
    return replace(found, mcnemar=_mcnemar_of(base.values, candidate.values))


def compare_sums(
    changes: Floats, slopes: Floats, samples: Measured, base: float, candidate: float, *, seed: int
) -> Difference:
    """Compare two values of a function of summed statistics, such as F1.

    A sample's gain is the change of its statistics along the function's slopes, the mean of those at both sums; samples
    without a change have none.  The gains are scaled so that they give the difference exactly: their sum differs from
    it in the third order.

    Args:
        changes: (samples, columns), of the statistics.
        slopes: (2, columns), the function's at the sums of each.
        samples: their clusters.
        base, candidate: the two values.
    """
    parts = len(changes) * (changes @ slopes.mean(axis=0))
    mean, difference = float(parts.mean()) if len(parts) else 0.0, candidate - base
    if mean and 0.5 < difference / mean < 2:
        parts = parts * (difference / mean)
    elif abs(difference - mean) > 1e-9:  # too large a change for slopes: nothing is claimed
        return untested(base, candidate, len(parts), samples.groups)
    return _of_gains(Measured(parts, samples.clusters, np.zeros_like(samples.clusters)), base, candidate, seed)


def _of_gains(gains: Measured, base: float, candidate: float, seed: int) -> Difference:
    # Means of the same numbers in another order differ in the last digits only.
    gains.values[np.abs(gains.values) < 1e-9] = 0.0
    error = gains.standard_error
    varies = error is not None and error > 0
    ends = bootstrap(gains.totals(), seed=seed) if varies else None
    return Difference(
        n=len(gains.values),
        clusters=gains.groups,
        base=base,
        candidate=candidate,
        difference=gains.mean,
        stderr=error,
        half=half_width(error, gains.groups) if varies else None,
        low=None if ends is None else ends[0],
        high=None if ends is None else ends[1],
        chance=permutation(gains.by_cluster(gains.values), seed=seed),
        mcnemar=None,
        wins=int((gains.values > 0).sum()),
        losses=int((gains.values < 0).sum()),
        ties=int((gains.values == 0).sum()),
        detectable=None,
        needed=None,
    ).at(ALPHA)


def permutation(sums: Floats, *, seed: int, flips: int = FLIPS) -> PermutationTest:
    """The paired permutation test of clusters' summed differences, (clusters,).

    Without a difference, both signs of a cluster are equally probable (Good 2005, chapter 3).

    All sign patterns if at most 16 clusters differ, else 9,999 random ones with p = (1 + hits) / (1 + flips) (Phipson &
    Smyth 2010), which is never 0.
    """
    sizes = np.abs(sums)
    largest = float(sizes.max(initial=0.0))
    sums = sums[sizes > 1e-12 * largest] if largest > 0 else sums[:0]
    if not len(sums):
        return PermutationTest(1.0, 1.0, True)
    seen, sizes = float(sums.sum()), np.abs(sums)
    slack = 1e-9 * float(sizes.sum())  # sums of the same numbers in another order
    exact = len(sums) <= EXACT_UP_TO
    flipped = _every_sum(sizes) if exact else _random_sums(sizes, np.random.default_rng(seed), flips)
    extra = 0 if exact else 1
    total = len(flipped) + extra
    return PermutationTest(
        float((np.count_nonzero(np.abs(flipped) >= abs(seen) - slack) + extra) / total),
        float((np.count_nonzero(flipped <= seen + slack) + extra) / total),
        exact,
    )


def _every_sum(sizes: Floats) -> Floats:
    """The sum under each of the 2^k sign patterns."""
    patterns = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
    return np.asarray((2.0 * patterns - 1.0) @ sizes)


def _random_sums(sizes: Floats, rng: np.random.Generator, flips: int) -> Floats:
    """The sums under random signs; if few sizes occur (right/wrong scores), only their counts are drawn."""
    unit = float(sizes.max())
    kinds, counts = np.unique(np.round(sizes / unit, 9), return_counts=True)
    if len(kinds) <= len(sizes) / 8 or len(kinds) <= 64:
        positive = rng.binomial(counts, 0.5, size=(flips, len(counts)))
        return np.asarray((2.0 * positive - counts) @ (kinds * unit))
    sums = np.empty(flips)
    step = max(1, CHUNK_SIZE // len(sizes))
    for begin in range(0, flips, step):
        signs = rng.integers(0, 2, size=(min(step, flips - begin), len(sizes)), dtype=np.int8)
        sums[begin : begin + len(signs)] = 2.0 * (signs @ sizes) - sizes.sum()
    return sums


def _mcnemar_of(base: Floats, candidate: Floats) -> float | None:
    """McNemar's p-value; None unless the scores are right/wrong, with 0 and one other value only."""
    if len(np.unique(np.concatenate([[0.0], base, candidate]))) > 2:
        return None
    return mcnemar(int((candidate > base).sum()), int((candidate < base).sum()))


def mcnemar(won: int, lost: int) -> float:
    """McNemar's test, exact and two-sided: the binomial of the samples in which one was right and the other not."""
    from scipy.special import bdtr

    return min(1.0, 2.0 * float(bdtr(min(won, lost), won + lost, 0.5)))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979), which keeps the family-wise error rate below α."""
    adjusted = [0.0] * len(values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def detectable(stderr: float, *, alpha: float = ALPHA, power: float = POWER, sides: int = 2) -> float:
    """The smallest true difference that a test at ``alpha`` detects with ``power``: (z₁₋α/₂ + z_power) · stderr."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / sides) + normal.inv_cdf(power)) * stderr


def needed(
    n: int,
    stderr: float,
    difference: float,
    *,
    clusters: int | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
    sides: int = 2,
) -> int | None:
    """The number of samples to detect a true ``difference``, given the standard error at ``n``; None if it is 0.

    At least as many samples as give a permutation test enough clusters: with k of them, its smallest p-value is
    ``sides`` / 2^k.

    Args:
        clusters: of the ``n`` samples; None if each sample is one.
    """
    if difference == 0:
        return None
    found = n * (detectable(stderr, alpha=alpha, power=power, sides=sides) / difference) ** 2
    least = math.ceil(math.log2(sides / alpha)) * n / (n if clusters is None else clusters)
    return math.ceil(max(found, least))
