"""The interval shown with a score: symmetric by Student's t, or Wilson's near the ends of the scale.

Scores over several answers to each sample have Hall's interval, corrected for skewness.  pass@k of a large k is often
near the end of the scale, where few images have failures, and one of them has several: the score and its estimated
error are then correlated (the error is too small where the score is too high), and a symmetric interval misses the true
value too often, on one side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from .clustered import LEVEL, Measured, bootstrap

MANY_DEGREES = 1000
"""Degrees of freedom from which the quantiles of Student's t need no SciPy."""


@dataclass(frozen=True)
class Interval:
    """The 95 % interval of a score, in its unit.

    Attributes:
        stderr: the clustered standard error.
        half: half of the symmetric interval (Student's t); None with ``wilson`` and ``hall``.
        low, high: the ends, by bootstrap, or by Wilson's or Hall's formula.
        method: ``wilson`` if a symmetric interval would leave the scale; else ``bootstrap``, or ``hall`` for repeated
            samples.
    """

    stderr: float | None
    half: float | None
    low: float
    high: float
    method: str

    def as_row(self) -> dict[str, Any]:
        """The fields as ``scores.json`` names them."""
        return {
            "stderr": self.stderr, "ci95": self.half, "low": self.low, "high": self.high, "interval": self.method,
        }  # fmt: skip


NO_INTERVAL: Mapping[str, Any] = dict.fromkeys(("stderr", "ci95", "low", "high", "interval"))


def interval_of(measured: Measured, *, scale: float | None, seed: int, repeated: bool = False) -> Interval | None:
    """The 95 % interval of a score; None if the spread cannot be estimated, since 0 would claim certainty.

    Args:
        scale: the upper end of a scale that begins at 0; None if there is none, as for CIDEr.
        repeated: whether it is a score over several answers to each sample.
    """
    quoted = ends_of(measured, scale=scale, repeated=repeated)
    if quoted is None:
        return None
    error = measured.standard_error
    if quoted.half is None:
        return Interval(error, None, quoted.low, quoted.high, quoted.method)
    ends = bootstrap(measured.totals(), measured.of_totals, seed=seed)
    return None if ends is None else Interval(error, quoted.half, *ends, "bootstrap")


@dataclass(frozen=True)
class Ends:
    """The ends of a 95 % interval in the score's unit; ``half`` of it if it is symmetric (``t``), else None."""

    half: float | None
    low: float
    high: float
    method: str


def ends_of(measured: Measured, *, scale: float | None, repeated: bool = False) -> Ends | None:
    """The ends of the interval to print with a score, without a bootstrap; arguments as for ``interval_of``."""
    error, value, groups = measured.standard_error, measured.mean, measured.groups
    half = half_width(error, groups)
    if error is None or half is None:
        return None
    if scale is not None and (error == 0 or value - half < 0 or value + half > scale):
        return Ends(None, *_wilson_of(measured, scale, repeated=repeated), "wilson")
    if error == 0:
        return None
    if scale is not None and repeated:
        return Ends(None, *corrected_for_skewness(measured, scale), "hall")
    return Ends(half, value - half, value + half, "t")


def _wilson_of(measured: Measured, scale: float, *, repeated: bool) -> tuple[float, float]:
    """Wilson's interval with at most one effective sample per cluster; for repeated samples with Student's t."""
    share, error, groups = measured.mean / scale, measured.standard_error or 0.0, measured.groups
    quantile = t_quantile((1 + LEVEL) / 2, groups - 1) if repeated else None
    low, high = wilson(share, effective_size(share, error / scale, groups), quantile)
    return low * scale, high * scale


def corrected_for_skewness(measured: Measured, scale: float) -> tuple[float, float]:
    """The ends of a 95 % interval by Hall's transformation (1992, JRSS B 54, 221-228), with Student's t.

    The transformation, a cubic of t = (mean − truth) / error, takes out the skewness that t has if the clusters' parts
    are skewed.  The interval is never wider than Wilson's with at most one effective sample per cluster.

    Args:
        measured: with a standard error above 0, and a mean between 0 and ``scale``.
    """
    value, error, skewness = measured.mean, measured.standard_error or 0.0, measured.skewness
    quantile = t_quantile((1 + LEVEL) / 2, measured.groups - 1)
    low, high = _wilson_of(measured, scale, repeated=True)
    below, above = (value - error * _without_skewness(x, skewness) for x in (quantile, -quantile))
    return max(low, below), min(high, above)


def _without_skewness(x: float, skewness: float) -> float:
    """The t whose transformed value is ``x``, the inverse of Hall's cubic, with the ``skewness`` of the mean."""
    if abs(skewness) < 1e-9:
        return x
    return 3 / skewness * (math.cbrt(1 + skewness * (x - skewness / 6)) - 1)


def effective_size(share: float, error: float, groups: int) -> float:
    """The number of independent samples that would give ``share`` (0 to 1) this standard error; at most ``groups``.

    Near the ends of the scale few clusters vary, and the correlation within them cannot be estimated: at most one
    independent sample is counted per cluster.
    """
    return min(share * (1 - share) / error**2, groups) if error > 0 else groups


def wilson(share: float, size: float, z: float | None = None) -> tuple[float, float]:
    """Wilson's 95 % score interval of a ``share`` (0 to 1) of ``size`` independent samples (Wilson 1927).

    All of ``size`` right gives [size / (size + 3.84), 1]: about the rule of three, two-sided.

    Args:
        z: the quantile; default: the normal distribution's.
    """
    # Not scipy's ``binomtest(k, n).proportion_ci("wilson")``: it takes integers only, and effective sizes are not.
    z = NormalDist().inv_cdf((1 + LEVEL) / 2) if z is None else z
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def half_width(standard_error: float | None, groups: int | None = None) -> float | None:
    """Half of the 95 % interval: Student's t with G − 1 degrees of freedom for G clusters, else the normal one."""
    if standard_error is None:
        return None
    return t_quantile((1 + LEVEL) / 2, math.inf if groups is None else groups - 1) * standard_error


def t_quantile(p: float, degrees: float) -> float:
    """The quantile of Student's t distribution at ``p``; infinite ``degrees`` of freedom give the normal one.

    For many degrees of freedom it is the expansion of Abramowitz & Stegun 26.7.5, whose error is then below 1e-15.
    """
    if degrees < MANY_DEGREES:
        from scipy.special import stdtrit  # takes as long to import as the rest of a small command

        return float(stdtrit(degrees, p))
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))
