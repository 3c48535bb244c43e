"""The interval shown with a score: symmetric by Student's t, or Wilson's near the ends of the scale."""

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
        half: half of the symmetric interval (Student's t); None with ``wilson``.
        low, high: the ends, by bootstrap or Wilson's formula.
        method: ``bootstrap``, or ``wilson`` if a symmetric interval would leave the scale.
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


def interval_of(measured: Measured, *, scale: float | None, seed: int) -> Interval | None:
    """The 95 % interval of a score; None if the spread cannot be estimated, since 0 would claim certainty.

    Args:
        scale: the upper end of a scale that begins at 0; None if there is none, as for CIDEr.
    """
    error = measured.standard_error
    if error is None:
        return None
    value, half = measured.mean, half_width(error, measured.groups)
    assert half is not None
    if scale is not None and (error == 0 or value - half < 0 or value + half > scale):
        low, high = wilson(value / scale, effective_size(value / scale, error / scale, measured.groups))
        return Interval(error, None, low * scale, high * scale, "wilson")
    ends = bootstrap(measured.totals(), measured.of_totals, seed=seed)
    if error == 0 or ends is None:
        return None
    return Interval(error, half, *ends, "bootstrap")


def effective_size(share: float, error: float, groups: int) -> float:
    """The number of independent samples that would give ``share`` (0 to 1) this standard error; at most ``groups``.

    Near the ends of the scale few clusters vary, and the correlation within them cannot be estimated: at most one
    independent sample is counted per cluster.
    """
    return min(share * (1 - share) / error**2, groups) if error > 0 else groups


def wilson(share: float, size: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a ``share`` (0 to 1) of ``size`` independent samples (Wilson 1927).

    All of ``size`` right gives [size / (size + 3.84), 1]: about the rule of three, two-sided.
    """
    # Not scipy's ``binomtest(k, n).proportion_ci("wilson")``: it takes integers only, and effective sizes are not.
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
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
