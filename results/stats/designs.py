"""Estimates of a complete benchmark's score from a stratified random sample of it.

Inference is design-based (Särndal, Swensson & Wretman 1992): the samples were drawn with known probabilities, so that
the estimate is nearly unbiased and its interval holds for any model, whether or not it resembles the reference runs.
What these know enters as strata, as numbers of samples per stratum, and as covariates whose totals over the benchmark
are known (regression estimator, Cochran 1977, chapter 7); where it is wrong, intervals widen.

A unit is what is drawn: a sample, or an image with all its questions.  A unit's value is the sum of its samples' parts
of the score, so that the score of the complete benchmark is the sum over all units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .clustered import LEVEL, Floats, Ints, sums_by
from .error_bars import t_quantile, wilson

PRIOR = 4.0
"""How many residuals the expected variance of a stratum counts as, next to the observed ones."""
LEAST_SPREAD = 0.1
"""The smallest expected variance of a stratum, as a share of the mean one: new models err where no reference does."""
UNSEEN = 1.5
"""Errors that the mean variance is at least that of: a sample without any does not show that there is none."""
SKEWNESS = 0.1
"""The skewness of an estimate, as of a share of independent samples, from which its interval is Wilson's."""
FEWEST = 2
"""Units per stratum: fewer have no variance."""


@dataclass(frozen=True, eq=False)
class Strata:
    """The strata of a benchmark, as far as an estimate needs them.

    Attributes:
        sizes: (strata,), the number of units in each.
        totals: (strata, covariates), the sums of the covariates over the units of each.
        spread: (strata,), the expected variance of a unit's residual, up to a common factor.
        largest: the mean square of the largest value that a unit can have; 0 if there is no largest.
    """

    sizes: Floats
    totals: Floats
    spread: Floats
    largest: float = 0.0


@dataclass(frozen=True, eq=False)
class Estimate:
    """The estimate of a sum over all units.

    Attributes:
        value: in the unit of the score.
        sampling: variance from the choice of units, for an unlimited number of units like these.
        noise: variance of the sum over all units of a benchmark like this one, if other units had been collected.
        degrees: degrees of freedom of both.
        units: the number of units.
        misfit: the mean squared residual over the expected one; about 1 for a model like the references, if ``spread``
            is in squared units of the score.
    """

    value: float
    sampling: float
    noise: float
    degrees: float
    units: int
    misfit: float
    misfit_error: float

    @cached_property
    def stderr(self) -> float:
        """The standard error as an estimate of the score on the complete benchmark (finite population)."""
        return math.sqrt(max(0.0, self.sampling - self.noise))

    def half(self, level: float = LEVEL) -> float:
        """Half of the interval by Student's t."""
        return t_quantile((1 + level) / 2, self.degrees) * self.stderr

    def interval(self, scale: float | None) -> tuple[float, float]:
        """The ends of the 95 % interval: Student's t, or Wilson's for skewed estimates on a scale from 0 to ``scale``.

        Estimates are skewed near the ends of the scale, as shares of few samples are.  Wilson's interval is that of as
        many independent samples as would have this standard error.  They are counted with the ``UNSEEN`` errors, as the
        standard error is, and are at most ``units`` if the symmetric interval leaves the scale.
        """
        low, high = self.value - self.half(), self.value + self.half()
        if scale is None:
            return low, high
        share = min(1.0, max(0.0, self.value / scale))
        shrunk = (share * self.units + UNSEEN) / (self.units + 2 * UNSEEN)
        size = shrunk * (1 - shrunk) * (scale / self.stderr) ** 2 if self.stderr > 0 else math.inf
        outside = low < 0 or high > scale or not math.isfinite(size)
        if not outside and abs(1 - 2 * shrunk) < SKEWNESS * math.sqrt(size * shrunk * (1 - shrunk)):
            return low, high
        size = max(1.0, min(size, self.units) if outside else size)
        found = wilson(share, size, t_quantile((1 + LEVEL) / 2, self.degrees))
        return found[0] * scale, found[1] * scale


def estimate(strata: Strata, stratum: Ints, values: Floats, covariates: Floats) -> Estimate:
    """Estimate the sum of ``values`` over all units.

    Args:
        stratum: (n,), of each drawn unit.
        values: (n,), of each drawn unit.
        covariates: (n, covariates), in the order of ``strata.totals``.
    """
    count = len(strata.sizes)
    drawn = np.bincount(stratum, minlength=count).astype(np.float64)
    means = sums_by(stratum, values, count) / drawn
    centres = np.zeros((count, covariates.shape[1]))
    for place, column in enumerate(covariates.T):
        centres[:, place] = sums_by(stratum, column, count) / drawn
    centred, moved = values - means[stratum], covariates - centres[stratum]
    # The weight of a unit's squared residual in the variance; a stratum that was drawn completely has none.
    weights = strata.sizes**2 / (drawn * np.maximum(drawn - 1, 1)) * (1 - drawn / strata.sizes)
    slope, rank = _slope(moved, centred, weights[stratum])
    residuals = centred - moved @ slope
    value = float(strata.sizes @ means + (strata.totals - strata.sizes[:, None] * centres).sum(axis=0) @ slope)
    free = max(1.0, len(values) - count - rank)
    squares = sums_by(stratum, residuals**2, count) * (len(values) - count) / free
    ratio = residuals**2 / strata.spread[stratum] * len(values) / free
    misfit = float(ratio.mean())
    variance = (squares + PRIOR * misfit * strata.spread) / (drawn - 1 + PRIOR)
    rare = UNSEEN / (len(values) + 2 * UNSEEN)
    least = rare * (1 - rare) * strata.largest * strata.sizes.sum() / float(strata.sizes @ strata.spread)
    variance = np.maximum(variance, least * strata.spread)
    parts = strata.sizes**2 * variance / drawn
    degrees = float(parts.sum() ** 2 / (parts**2 / (drawn - 1 + PRIOR)).sum()) if parts.sum() > 0 else free
    return Estimate(
        value, float(parts.sum()), float(strata.sizes @ variance), min(degrees, free), len(values), misfit,
        float(ratio.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf,
    )  # fmt: skip


def _slope(covariates: Floats, values: Floats, weights: Floats) -> tuple[Floats, int]:
    """The least-squares slope of values on covariates, and its rank; collinear covariates share one."""
    roots = np.sqrt(weights)[:, None]
    scale = np.sqrt((covariates**2).sum(axis=0))
    scale[scale < 1e-12] = np.inf  # a covariate that does not vary in the sample has no slope
    found, _, rank, _ = np.linalg.lstsq(covariates / scale * roots, values * roots[:, 0], rcond=1e-6)
    return found / scale, int(rank)


def cut(group: Ints, mass: Floats, mean: Floats, variance: Floats, count: int) -> Ints:
    """(U,), the stratum of each unit: at most ``count`` strata of neighbouring groups.

    Their edges make the error under Neyman's allocation smallest, the sum of each stratum's mass × standard deviation
    (by dynamic programming).

    Args:
        group: (U,), numbers from 0: units of a group share a stratum.
        mass: (U,), the weight of each unit.
        mean: (U,), the expected value of a unit per mass.
        variance: (U,), its expected variance around that.
    """
    size = int(group.max()) + 1
    sums = [sums_by(group, mass * column, size) for column in (np.ones_like(mean), mean, variance + mean**2)]
    weight, first, second = (np.concatenate([[0.0], np.cumsum(one)]) for one in sums)
    begin, end = np.triu_indices(size + 1, 1)
    total = weight[end] - weight[begin]
    squares = (second[end] - second[begin]) * total - (first[end] - first[begin]) ** 2
    cost = np.full((size + 1, size + 1), np.inf)
    cost[begin, end] = np.sqrt(np.maximum(squares, 0.0))
    best, origins = cost[0], []
    for _ in range(min(count, size) - 1):
        both = best[:, None] + cost
        origins.append(both.argmin(axis=0))
        best = both.min(axis=0)
    edges = [size]
    for origin in reversed(origins):
        edges.append(int(origin[edges[-1]]))
    return np.asarray(np.searchsorted(edges[::-1], group, side="right"), dtype=np.int64)


def allocate(total: int, sizes: Floats, spread: Floats) -> Ints:
    """The number of units to draw from each stratum: Neyman's allocation, in proportion to size × √spread.

    At least two each, or all there are.
    """
    least = np.minimum(sizes, FEWEST)
    wanted = sizes * np.sqrt(spread)
    low, high = 0.0, 2.0 * max(total, 1) / max(float(wanted[wanted > 0].min(initial=np.inf)), 1e-300)
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(middle * wanted, least, sizes).sum() > total:
            high = middle
        else:
            low = middle
    exact = np.clip(low * wanted, least, sizes)
    found = np.floor(exact + 1e-9)
    rest = int(min(total, sizes.sum()) - found.sum())
    for place in np.argsort(-(exact - found), kind="stable")[: max(0, rest)]:
        found[place] += found[place] < sizes[place]
    return found.astype(np.int64)


def variances(strata: Ints, drawn: Ints, values: Floats, covariates: Floats) -> tuple[float, float]:
    """The expected ``sampling`` and ``noise`` of an ``Estimate``, for known values of all units, (U,).

    Args:
        strata: (U,), of each unit.
        drawn: (strata,), the numbers of units to draw.
        covariates: (U, covariates).
    """
    count = len(drawn)
    sizes = np.bincount(strata, minlength=count).astype(np.float64)
    values, rank = _residuals(strata, drawn, values, covariates)
    # The slope is found in the sample, which costs about one degree of freedom per covariate.
    spent = 1 + rank / max(1.0, float(drawn.sum()) - count - rank)
    spread = spent * sums_by(strata, values**2, count) / np.maximum(sizes - 1, 1)
    return float(sizes**2 / drawn @ spread), float(sizes @ spread)


def skewness(strata: Ints, drawn: Ints, values: Floats, covariates: Floats) -> float:
    """The skewness of an estimate over all draws, for known values of all units; arguments as for ``variances``."""
    count = len(drawn)
    sizes = np.bincount(strata, minlength=count).astype(np.float64)
    values, _ = _residuals(strata, drawn, values, covariates)
    # Of means without replacement (Cochran 1977, equation 2.39 for the third moment).
    second = sizes * (sizes - drawn) / drawn / np.maximum(sizes - 1, 1)
    factor = sizes**2 * (sizes - drawn) * (sizes - 2 * drawn) / drawn**2
    factor = factor / np.maximum((sizes - 1) * (sizes - 2), 1)
    variance = float(second @ sums_by(strata, values**2, count))
    third = float(factor @ sums_by(strata, values**3, count))
    return third / variance**1.5 if variance > 0 else 0.0


def _residuals(strata: Ints, drawn: Ints, values: Floats, covariates: Floats) -> tuple[Floats, int]:
    """(U,), what strata and covariates leave over of the values, and the rank of the covariates within strata."""
    count = len(drawn)
    sizes = np.bincount(strata, minlength=count).astype(np.float64)

    def centred(column: Floats) -> Floats:
        return np.asarray(column - (sums_by(strata, column, count) / sizes)[strata])

    values, rank = centred(values), 0
    if covariates.shape[1]:
        moved = np.stack([centred(column) for column in covariates.T], axis=1)
        factors = sizes**2 * (1 / drawn - 1 / sizes) / np.maximum(sizes - 1, 1)
        slope, rank = _slope(moved, values, factors[strata])
        values = values - moved @ slope
    return values, rank


def needed_size(error_at: Callable[[int], float], wanted: float, largest: int) -> int | None:
    """The smallest size with ``error_at(size)`` at most ``wanted``; None if ``largest`` is not enough.

    ``error_at`` falls with the size, but for rounding.
    """
    low, high = 2 * FEWEST, largest
    if error_at(high) > wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        if error_at(middle) <= wanted:
            high = middle
        else:
            low = middle + 1
    return high
