"""Standard errors of means whose samples come in clusters (the questions of one image are not independent)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence


def clustered_standard_error(values: Mapping[str, float], clusters: Mapping[str, str]) -> float | None:
    """The cluster-robust standard error of the mean of ``values`` (sample id → value), in their unit.

    With residuals e = value − mean summed per cluster, the variance is G / (G − 1) · Σ_g (Σ_{i∈g} e_i)² / n²
    (Liang & Zeger 1986; Miller 2024, arXiv 2411.00640, eq. 4, with the small-sample factor).

    Returns None for fewer than two clusters: no spread can be seen, and zero would claim certainty.
    """
    return standard_error_of_mean([(values, clusters)])


def standard_error_of_mean(parts: Sequence[tuple[Mapping[str, float], Mapping[str, str]]]) -> float | None:
    """The same for the unweighted mean of several parts' means; each part is (values, clusters) by sample id.

    Clusters of one name are one cluster: the splits of a benchmark may ask about the same pictures, and are then not
    independent either.  Returns None when any part has fewer than two clusters.
    """
    sums: dict[str, float] = defaultdict(float)
    for values, clusters in parts:
        if len({clusters[sample] for sample in values}) < 2:
            return None
        mean = sum(values.values()) / len(values)
        for sample, value in values.items():
            sums[clusters[sample]] += (value - mean) / len(values) / len(parts)
    groups = len(sums)
    if groups < 2:
        return None
    return math.sqrt(groups / (groups - 1) * sum(s * s for s in sums.values()))


def half_width(standard_error: float | None) -> float | None:
    """Half of the normal 95 % interval."""
    return None if standard_error is None else 1.959964 * standard_error
