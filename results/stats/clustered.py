"""Clustered standard errors and the cluster bootstrap: the questions about one image are not independent.

A score is a mean, or the unweighted mean of the means of several strata (the splits of a benchmark, the halves of
ChartQA), or a weighted sum of such means (the subtasks of MME).  ``error_bars`` chooses the interval to show with a
score; ``paired`` compares two scores.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Statistic = Callable[[Floats], Floats]
"""Turns totals, (rows, columns), one row per resample, into one value per row."""

LEVEL = 0.95
DRAWS = 2000
CHUNK_SIZE = 4_000_000  # numbers per chunk of a resampling: 32 MB


def codes(names: Iterable[str]) -> Ints:
    """(n,), a number from 0 for each name, in order of first appearance."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def sums_by(groups: Ints, values: Floats, count: int) -> Floats:
    """(count,), the sums of the values, (n,), by group number, (n,), below ``count``."""
    return np.asarray(np.bincount(groups, values, minlength=count), dtype=np.float64)


def seed_of(*names: str) -> int:
    """A seed that depends on ``names`` only, so that results do not depend on the order of computation."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode(errors="surrogatepass")).digest()[:8], "big")


@dataclass(frozen=True, eq=False)
class Measured:
    """Samples' values with their clusters, which are resampled as units.

    Attributes:
        values: (n,), in the metric's unit.
        clusters: (n,), numbers from 0; a cluster is an image.
        strata: (n,), numbers from 0; the score is the weighted sum of the strata's means.
        coefficients: (strata,), the weight of each stratum's mean; None for the unweighted mean of the means.
    """

    values: Floats
    clusters: Ints
    strata: Ints
    coefficients: Floats | None = None

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        clusters: Sequence[str],
        strata: Sequence[str] | None = None,
        coefficients: Mapping[str, float] | None = None,
    ) -> Measured:
        """From lists of the same length; ``coefficients`` by stratum."""
        array = np.asarray(values, dtype=np.float64)
        groups = np.zeros(len(array), dtype=np.int64) if strata is None else codes(strata)
        if not len(array) == len(clusters) == len(groups):
            raise ValueError(f"{len(array)} values, {len(clusters)} clusters, {len(groups)} strata")
        if coefficients is None or strata is None:
            return cls(array, codes(clusters), groups)
        weights = [coefficients[stratum] for stratum in dict.fromkeys(strata)]
        return cls(array, codes(clusters), groups, np.array(weights, dtype=np.float64))

    @cached_property
    def groups(self) -> int:
        """The number of clusters."""
        return int(self.clusters.max()) + 1 if len(self.clusters) else 0

    @cached_property
    def sizes(self) -> Floats:
        """(strata,), the number of samples of each."""
        return np.bincount(self.strata).astype(np.float64)

    @cached_property
    def means(self) -> Floats:
        """(strata,), the mean of each."""
        return sums_by(self.strata, self.values, len(self.sizes)) / self.sizes

    @property
    def mean(self) -> float:
        """The score."""
        if not len(self.values):
            return math.nan
        return float(self.means.mean() if self.coefficients is None else self.means @ self.coefficients)

    @cached_property
    def weights(self) -> Floats:
        """(n,), the weight of each sample in the score; they sum to 1 in a mean."""
        if self.coefficients is None:
            weights: Floats = 1.0 / (self.sizes[self.strata] * len(self.sizes))
        else:
            weights = self.coefficients[self.strata] / self.sizes[self.strata]
        return weights

    @property
    def has_spread(self) -> bool:
        """Whether the spread can be estimated: every stratum has at least two clusters."""
        if not len(self.values):
            return False
        pairs = np.unique(np.stack([self.strata, self.clusters]), axis=1)
        return bool(np.bincount(pairs[0]).min() >= 2)

    def by_cluster(self, values: Floats) -> Floats:
        """(clusters,), the weighted sums of (n,) values."""
        return sums_by(self.clusters, values * self.weights, self.groups)

    @cached_property
    def standard_error(self) -> float | None:
        """The cluster-robust standard error of the score, in its unit; None if it cannot be estimated.

        With residuals e = value − mean summed per cluster, the variance is G / (G − 1) · Σ_g (Σ_{i∈g} e_i)² / n²
        (Liang & Zeger 1986; Miller 2024, arXiv 2411.00640, eq. 4, with the small-sample factor).
        """
        if not self.has_spread:
            return None
        sums = self.by_cluster(self.values - self.means[self.strata])
        error = math.sqrt(self.groups / (self.groups - 1) * float(sums @ sums))
        # Equal values up to rounding have no spread.
        largest = float(np.abs(self.values).max()) * max(1.0, float(np.abs(self.weights).sum()))
        return error if error > 1e-12 * max(1.0, largest) else 0.0

    @cached_property
    def skewness(self) -> float:
        """The skewness of the score's sampling distribution, Σ_g e_g³ / (Σ_g e_g²)^1.5; 0 without spread.

        e_g are the clusters' summed residuals of ``standard_error``.
        """
        sums = self.by_cluster(self.values - self.means[self.strata])
        square = float(sums @ sums)
        return float((sums**3).sum()) / square**1.5 if square > 0 else 0.0

    def totals(self) -> Floats:
        """(clusters, 2 × strata): each cluster's sums of values, then its numbers of samples."""
        count = len(self.sizes)
        place = self.clusters * count + self.strata
        cells = self.groups * count
        sums = sums_by(place, self.values, cells).reshape(self.groups, count)
        return np.hstack([sums, np.bincount(place, minlength=cells).reshape(self.groups, count)])

    def of_totals(self, totals: Floats) -> Floats:
        """(rows,), the scores whose sums over clusters are ``totals``, (rows, 2 × strata)."""
        return mean_of_ratios(totals) if self.coefficients is None else ratios(totals) @ self.coefficients


def one_stratum(values: Floats, clusters: Ints) -> Measured:
    """The mean of ``values``, (n,); ``clusters``, (n,), are numbers from 0 without gaps."""
    return Measured(values, clusters, np.zeros(len(values), dtype=np.int64))


def mean_of_ratios(totals: Floats) -> Floats:
    """Numerators and denominators side by side, (rows, 2k) → the mean of the k ratios, (rows,).

    A mean is the ratio of summed values to samples; F1 is that of 2 · TP to 2 · TP + FP + FN.
    """
    found: Floats = ratios(totals).mean(axis=1)
    return found


def ratios(totals: Floats) -> Floats:
    """Numerators and denominators side by side, (rows, 2k) → the k ratios, (rows, k)."""
    count = totals.shape[1] // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = totals[:, :count] / totals[:, count:]
    return found


def bootstrap(
    totals: Floats, statistic: Statistic = mean_of_ratios, *, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float] | None:
    """The 95 % percentile interval when clusters are drawn with replacement (Efron & Tibshirani 1993, chapter 13).

    Args:
        totals: (clusters, columns), each cluster's part of the sums that the score is computed from.
        statistic: from (draws, columns) sums to (draws,) scores.

    Returns None for fewer than two clusters, or if no resample has a score.
    """
    if len(totals) < 2:
        return None
    return percentiles(statistic(resampled(totals, np.random.default_rng(seed), draws)))


def percentiles(drawn: Floats) -> tuple[float, float] | None:
    """The ends of the middle 95 % of resampled scores, (draws,); None if no resample has a score."""
    drawn = drawn[np.isfinite(drawn)]  # a resample may have no sample of a stratum
    if not len(drawn):
        return None
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def resampled(totals: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """(draws, columns), the sums over ``len(totals)`` clusters drawn with replacement.

    Clusters with equal totals are interchangeable.  If there are few different ones (right/wrong scores), only their
    counts are drawn: the same distribution, a hundred times as fast.
    """
    groups = len(totals)
    kinds, counts = np.unique(totals, axis=0, return_counts=True)
    if len(kinds) <= groups / 8 or len(kinds) <= 64:
        return np.asarray(rng.multinomial(groups, counts / groups, size=draws) @ kinds, dtype=np.float64)
    sums = np.empty((draws, totals.shape[1]))
    step = max(1, CHUNK_SIZE // groups)
    for begin in range(0, draws, step):
        chosen = rng.integers(0, groups, size=(min(step, draws - begin), groups), dtype=np.int32)
        times = np.stack([np.bincount(row, minlength=groups) for row in chosen])  # how often each cluster is drawn
        sums[begin : begin + len(chosen)] = times.astype(np.float64) @ totals
    return sums


# ------------------------------------------------------------------------------------------- by sample id, as dicts


def clustered_standard_error(values: Mapping[str, float], clusters: Mapping[str, str]) -> float | None:
    """The clustered standard error of the mean of ``values`` (sample id → value); see ``Measured``."""
    return standard_error_of_mean([(values, clusters)])


def standard_error_of_mean(parts: Sequence[tuple[Mapping[str, float], Mapping[str, str]]]) -> float | None:
    """The same for the unweighted mean of the means of several parts, each (values, clusters) by sample id."""
    if any(not values for values, _ in parts):
        return None
    return stratified(parts).standard_error


def stratified(parts: Sequence[tuple[Mapping[str, float], Mapping[str, str]]]) -> Measured:
    """Several parts as the strata of one score.

    Clusters of the same name are one cluster across parts: the splits of a benchmark may share images, and are then
    not independent.
    """
    return Measured.of(
        [value for values, _ in parts for value in values.values()],
        [clusters[sample] for values, clusters in parts for sample in values],
        [str(place) for place, (values, _) in enumerate(parts) for _ in values],
    )
