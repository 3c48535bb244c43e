"""The interval of every number that a metric gave, from its per-sample scores.

How a value comes from the samples is found out and verified: a way of computing it that does not give the value itself
is not used, and a number without a verified way has no interval.  The ways are, in this order:

- statistics whose sums the metric turns into the value (``corpus`` of its scores): BLEU and METEOR, whose
  statistics are sufficient;
- the mean of the column of that name (``mean_iou``: of ``iou``);
- where the signature says ``mean:subsets``, the unweighted mean of the means of what ``meta["subset"]`` names;
- ``accuracy[number]``: the mean over the samples that have ``number`` somewhere in ``meta``.

CIDEr is the mean of its per-image scores.  Their idf comes from the references, which are held as they are: the
interval says how the score varies with the images that are captioned, not with those that the idf was counted on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from evalkit.scoring import Result
from evalkit.types import Scores

from .clustered import DRAWS, Floats, Measured, percentiles, resampled, seed_of, sums_by
from .error_bars import Interval, half_width, interval_of

WITHOUT_END = ("cider",)
"""Metrics whose scale has no upper end that a model could reach; the others end at 100."""
MEAN_OF = re.compile(r"\|mean:(\w+)s(?:\||$)")
PART = re.compile(r"(.+)\[(.+)\]")


@runtime_checkable
class FromSums(Protocol):
    """Scores some of which are computed from summed statistics.

    ``statistics`` are each sample's, ``corpus`` turns (draws, columns) sums into (draws,) values by name.
    """

    @property
    def values(self) -> Mapping[str, float]: ...

    @property
    def statistics(self) -> Mapping[str, Sequence[float]]: ...

    @property
    def corpus(self) -> Callable[[Floats], Mapping[str, Floats]]: ...


def scale_of(name: str) -> float | None:
    """The upper end of a value's scale."""
    return None if name.split("[")[0].split("_")[0] in WITHOUT_END else 100.0


def headline(result: Result) -> tuple[Measured, list[str] | None] | None:
    """The samples of the headline score and their strata; None where it is no mean that could be verified."""
    scores = result.scores
    return None if scores is None or not scores.per_sample else _mean(result, scores, scores.headline)


def of_values(result: Result) -> dict[str, dict[str, Any]]:
    """Every value's interval, by its name, as ``scores.json`` has it; values without one are not there."""
    scores = result.scores
    if scores is None or not scores.per_sample:
        return {}
    found = dict(_from_sums(result, scores)) if isinstance(scores, FromSums) else {}
    for name in scores.values:
        if name not in found and (mean := _mean(result, scores, name)) is not None:
            seed = seed_of(result.job.name, name)
            if (interval := interval_of(mean[0], scale=scale_of(name), seed=seed)) is not None:
                found[name] = interval
    return {name: found[name].as_row() for name in scores.values if name in found}


def _mean(result: Result, scores: Scores, name: str) -> tuple[Measured, list[str] | None] | None:
    """The samples whose mean is the value ``name``."""
    value = scores.values[name]
    for column, ids, strata in _ways(result, scores, name):
        measured = Measured.of(
            [scores.per_sample[sample][column] for sample in ids], [result.clusters[sample] for sample in ids], strata
        )
        if math.isclose(measured.mean, value, rel_tol=1e-9, abs_tol=1e-9):
            return measured, strata
    return None


def _ways(result: Result, scores: Scores, name: str) -> Iterator[tuple[str, list[str], list[str] | None]]:
    """(column, samples, strata) that could give the value ``name``, the likeliest first."""
    ids = list(scores.per_sample)
    columns = scores.per_sample[ids[0]]
    part = PART.fullmatch(name)
    column = part[1] if part else name.removeprefix("mean_") if name not in columns else name
    if column not in columns:
        return
    meta = {sample.id: sample.meta for sample in result.job.samples}
    if part is not None:
        for key in sorted({key for sample in ids for key, value in meta[sample].items() if str(value) == part[2]}):
            yield column, [sample for sample in ids if str(meta[sample].get(key)) == part[2]], None
        return
    if (said := MEAN_OF.search(scores.signature)) and all(meta[sample].get(said[1]) is not None for sample in ids):
        yield column, ids, [str(meta[sample][said[1]]) for sample in ids]
    yield column, ids, None


def _from_sums(result: Result, scores: FromSums) -> Iterator[tuple[str, Interval]]:
    """The intervals of the values that come from summed statistics: bootstrap, and the delta method's error."""
    ids = list(scores.statistics)
    samples = np.array([scores.statistics[sample] for sample in ids], dtype=np.float64)
    clusters = Measured.of([0.0] * len(ids), [result.clusters[sample] for sample in ids])
    if clusters.groups < 2:
        return
    totals = np.stack([sums_by(clusters.clusters, column, clusters.groups) for column in samples.T], axis=1)
    drawn = scores.corpus(resampled(totals, np.random.default_rng(seed_of(result.job.name, "sums")), DRAWS))
    for name, whole in scores.corpus(totals.sum(axis=0)[None]).items():
        if not math.isclose(whole[0], scores.values[name], rel_tol=1e-9, abs_tol=1e-9):
            continue
        error = delta(totals, lambda sums, name=name: scores.corpus(sums)[name])  # type: ignore[misc]
        ends = percentiles(drawn[name])
        if error and ends is not None:
            yield name, Interval(error, half_width(error, len(totals)), *ends, "bootstrap")


def delta(totals: Floats, statistic: Callable[[Floats], Floats]) -> float:
    """The standard error of a smooth function of sums, by its slopes at them (Casella & Berger 2002, section 5.5.4).

    For a ratio of sums it is the clustered standard error of ``Measured``.
    """
    whole = totals.sum(axis=0)
    steps = np.diag(1e-4 * np.abs(whole))
    change = statistic(whole + steps) - statistic(whole - steps)
    # A count that is 0 in all is 0 in each cluster, and varies not at all.
    slopes = np.divide(change, 2 * steps.diagonal(), out=np.zeros_like(whole), where=whole != 0)
    groups = len(totals)
    each = (totals - whole / groups) @ slopes
    return math.sqrt(groups / (groups - 1) * float(each @ each))
