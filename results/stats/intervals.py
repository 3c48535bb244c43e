"""The interval of every value of a metric, from its per-sample scores.

How a value comes from the samples is what the metric declares (``evalkit.aggregation``): a mean or a weighted sum of
means, with a clustered standard error; a function of summed statistics (BLEU, METEOR) or of samples' weights (average
precision), resampled; or neither, and then there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from evalkit import registry
from evalkit.aggregation import PERCENT, Aggregation, Mean, MeanOfGroups, OfSums, OfWeights, Weighted
from evalkit.errors import UserError
from evalkit.scoring import Result
from evalkit.types import Scores

from .clustered import DRAWS, Floats, Measured, codes, percentiles, resampled, seed_of, sums_by
from .error_bars import Interval, half_width, interval_of

Declared = TypeVar("Declared", bound=Aggregation)

WEIGHTED_DRAWS = 1000
"""Resamples for values that come from samples' weights, each of which is computed anew."""


def scale_of(name: str, signature: str) -> float | None:
    """The upper end of the scale of the value ``name`` in a stored score, by the metric that its signature names.

    100 if that metric is not installed.
    """
    declared = _declared(name, signature)
    return PERCENT if declared is None else declared.maximum


def _declared(name: str, signature: str) -> Aggregation | None:
    for piece in signature.split("|")[1:]:
        if ":" not in piece:
            try:
                return registry.metrics.get(piece).aggregation.get(name.partition("[")[0])
            except UserError:
                continue
    return None


def headline(result: Result) -> tuple[dict[str, float], list[str] | None] | None:
    """The samples' values of which the headline score is the mean, by id, and their strata.

    Of a weighted sum of means these are the samples' contributions to it.  None if it is neither.
    """
    scores = result.scores
    if scores is None or not scores.per_sample:
        return None
    declared = scores.aggregation_of(scores.headline)
    if not isinstance(declared, Weighted):
        return None
    units = declared.units(scores.headline, scores.per_sample, _meta(result, scores))
    if not is_plain(declared):
        return units.contributions(), None
    values = {sample: value for (sample,), value in zip(units.members, units.values, strict=True)}
    return values, list(units.strata) if isinstance(declared, MeanOfGroups) else None


def statistics(result: Result) -> tuple[Mapping[str, Sequence[float]], Sequence[float]] | None:
    """What a headline that is a function of summed statistics is compared by: each sample's, and the function's slopes.

    None if it is no such function, or its slopes at the sums are not defined.
    """
    scores = result.scores
    declared = None if scores is None else scores.aggregation_of(scores.headline)
    if scores is None or not isinstance(declared, OfSums) or not declared.statistics:
        return None
    total = np.array(list(declared.statistics.values()), dtype=np.float64).sum(axis=0)
    sums, name = declared, scores.headline
    with np.errstate(divide="ignore", invalid="ignore"):
        found = slopes(total, lambda some: sums.values(some)[name])
    return (declared.statistics, found.tolist()) if np.isfinite(found).all() else None


def is_plain(declared: Aggregation) -> bool:
    """Whether it is a mean over samples, or one of such means."""
    return isinstance(declared, Mean) and not declared.unit


def _meta(result: Result, scores: Scores) -> dict[str, Mapping[str, Any]]:
    return {sample.id: sample.meta for sample in result.job.samples if sample.id in scores.per_sample}


def of_values(result: Result) -> dict[str, dict[str, Any]]:
    """Every value's interval by its name, as in ``scores.json``; values without an interval are left out."""
    scores = result.scores
    if scores is None or not scores.per_sample:
        return {}
    meta = _meta(result, scores)
    found = {name: interval for sums in _shared(scores, OfSums) for name, interval in _from_sums(result, scores, sums)}
    for weights in _shared(scores, OfWeights):
        found |= dict(_from_weights(result, scores, weights))
    repeated = bool(result.repeats)
    for name in scores.values:
        if name not in found and (measured := _measured(result, scores, name, meta)) is not None:
            seed, scale = seed_of(result.job.name, name), scores.aggregation_of(name).maximum
            if (interval := interval_of(measured, scale=scale, seed=seed, repeated=repeated)) is not None:
                found[name] = interval
    return {name: found[name].as_row() for name in scores.values if name in found}


def _measured(result: Result, scores: Scores, name: str, meta: Mapping[str, Mapping[str, Any]]) -> Measured | None:
    """What the value ``name`` is the mean of, or the weighted sum of means; None if it is neither, or of no sample."""
    declared = scores.aggregation_of(name)
    if not isinstance(declared, Weighted):
        return None
    units = declared.units(name, scores.per_sample, meta)
    if not units.values:
        return None
    clusters = [result.clusters[members[0]] for members in units.members]
    return Measured.of(units.values, clusters, units.strata, None if isinstance(declared, Mean) else units.weights)


def _shared(scores: Scores, kind: type[Declared]) -> list[Declared]:
    """The different declarations of ``kind``: several values may share one."""
    declared = (scores.aggregation_of(name) for name in scores.values)
    return list({id(one): one for one in declared if isinstance(one, kind)}.values())


def _from_sums(result: Result, scores: Scores, sums: OfSums) -> Iterator[tuple[str, Interval]]:
    """The intervals of the values that come from summed statistics: bootstrap, and the delta method's error."""
    ids = list(sums.statistics)
    samples = np.array([sums.statistics[sample] for sample in ids], dtype=np.float64)
    clusters = Measured.of([0.0] * len(ids), [result.clusters[sample] for sample in ids])
    if clusters.groups < 2:
        return
    totals = np.stack([sums_by(clusters.clusters, column, clusters.groups) for column in samples.T], axis=1)
    drawn = sums.values(resampled(totals, np.random.default_rng(seed_of(result.job.name, "sums")), DRAWS))
    for name in scores.values:
        if scores.aggregation_of(name) is not sums:
            continue
        error = delta(totals, lambda some, name=name: sums.values(some)[name])  # type: ignore[misc]
        ends = percentiles(np.asarray(drawn[name]))
        if error and ends is not None:
            yield name, Interval(error, half_width(error, len(totals)), *ends, "bootstrap")


def _from_weights(result: Result, scores: Scores, weighted: OfWeights) -> Iterator[tuple[str, Interval]]:
    """The intervals of the values that come from samples' weights: clusters are drawn with replacement in each stratum.

    The standard error is the spread of the resampled values.
    """
    strata = codes(weighted.strata.values())
    clusters = codes(f"{stratum}/{result.clusters[sample]}" for sample, stratum in weighted.strata.items())
    first = np.unique(clusters, return_index=True)[1]
    stratum_of = strata[first]  # of each cluster
    if np.bincount(stratum_of).min() < 2:
        return
    rng = np.random.default_rng(seed_of(result.job.name, "weights"))
    times = np.zeros((WEIGHTED_DRAWS, len(first)), dtype=np.int64)
    for stratum in range(stratum_of.max() + 1):
        there = np.flatnonzero(stratum_of == stratum)
        times[:, there] = rng.multinomial(len(there), np.full(len(there), 1 / len(there)), size=WEIGHTED_DRAWS)
    drawn = weighted.values(times[:, clusters])
    for name in scores.values:
        if scores.aggregation_of(name) is not weighted:
            continue
        values = np.asarray(drawn[name])
        ends = percentiles(values)
        values = values[np.isfinite(values)]
        error = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        if error and ends is not None:
            yield name, Interval(error, half_width(error, len(first)), *ends, "bootstrap")


def delta(totals: Floats, statistic: Callable[[Floats], Floats]) -> float:
    """The standard error of a smooth function of sums, by its slopes at them (Casella & Berger 2002, section 5.5.4).

    For a ratio of sums it is the clustered standard error of ``Measured``.
    """
    total = totals.sum(axis=0)
    groups = len(totals)
    each = (totals - total / groups) @ slopes(total, statistic)
    return math.sqrt(groups / (groups - 1) * float(each @ each))


def slopes(total: Floats, statistic: Callable[[Floats], Floats]) -> Floats:
    """(columns,), the slopes of a function of sums at ``total``, (columns,)."""
    steps = np.diag(1e-4 * np.abs(total))
    change = statistic(total + steps) - statistic(total - steps)
    # A count that is 0 in all is 0 in each cluster, and does not vary.
    found: Floats = np.divide(change, 2 * steps.diagonal(), out=np.zeros_like(total), where=total != 0)
    return found
