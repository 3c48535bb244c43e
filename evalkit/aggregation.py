"""How a metric's values come from its per-sample scores.

A metric declares this per value, on itself or in its ``Scores``; every value then gets its confidence interval without
guessing.  A declaration is checked against the value: a metric whose samples do not give its value is refused.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

PerSample = Mapping[str, Mapping[str, float]]
"""Sample id → its scores by column."""
Meta = Mapping[str, Mapping[str, Any]]
"""Sample id → ``Sample.meta``."""

PERCENT = 100.0


def labels_of(value: Any) -> tuple[str, ...]:
    """The categories that an entry of ``meta`` names; none for an empty entry.

    A list names several.  A number is its text, so that ``1`` and ``"1"`` are one category; anything else is its JSON.
    """
    if isinstance(value, str):
        return (value,) if value else ()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(dict.fromkeys(label for one in value for label in labels_of(one)))
    if isinstance(value, Mapping):
        return (json.dumps(value, ensure_ascii=False, sort_keys=True, default=str),) if value else ()
    return (str(value),)


class Aggregation(ABC):
    """How one value comes from the samples.

    Attributes:
        tolerance: the largest relative error of ``compute`` that is attributed to rounding.
    """

    tolerance: float = 1e-9

    if TYPE_CHECKING:  # a field of the subclass

        @property
        def maximum(self) -> float | None:
            """The upper end of the value's scale, which begins at 0; None if it has none."""

    @abstractmethod
    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        """The value ``name`` computed from the samples; None if it cannot be.

        Raises:
            KeyError: a sample lacks the column.
        """

    def agrees(self, name: str, value: float, per_sample: PerSample, meta: Meta) -> bool:
        """Whether the samples give ``value``, up to rounding."""
        found = self.compute(name, per_sample, meta)
        if found is None or (math.isnan(found) and math.isnan(value)):
            return True
        return math.isclose(found, value, rel_tol=self.tolerance, abs_tol=self.tolerance)


@dataclass(frozen=True)
class Units:
    """What a weighted sum of means is made of; the lists have the same length.

    Attributes:
        values: one per unit, which counts once: a sample, or several that count together.
        members: the ids of each unit's samples.
        strata: the mean that each unit belongs to.
        weights: each mean's weight in the value, by stratum.
    """

    values: Sequence[float]
    members: Sequence[Sequence[str]]
    strata: Sequence[str]
    weights: Mapping[str, float]

    def contributions(self) -> dict[str, float]:
        """Each sample's part of the value, times the number of samples: their mean is the value."""
        sizes = Counter(self.strata)
        found: dict[str, float] = {}
        for value, members, stratum in zip(self.values, self.members, self.strata, strict=True):
            part = self.weights[stratum] * value / sizes[stratum] / len(members)
            for sample in members:
                found[sample] = found.get(sample, 0.0) + part
        return {sample: part * len(found) for sample, part in found.items()}


class Weighted(Aggregation):
    """A weighted sum of means: it has a clustered interval and paired tests."""

    @abstractmethod
    def units(self, name: str, per_sample: PerSample, meta: Meta) -> Units:
        """What the value ``name`` is made of.

        Raises:
            KeyError: a sample lacks the column, or an entry of ``meta``.
        """


@dataclass(frozen=True)
class Mean(Weighted):
    """The mean over all samples.

    Attributes:
        column: of the per-sample scores; empty for the one named like the value.
        maximum: the upper end of the scale, which begins at 0; None if it has none.
        unit: the entry of ``meta`` that names what counts once, such as a figure of which all questions must be
            answered right; empty if each sample does.  Every sample has it.  A unit's value is the mean of its
            samples', and its samples are of one cluster.
    """

    column: str = ""
    maximum: float | None = PERCENT
    unit: str = field(default="", kw_only=True)

    def group(self, meta: Mapping[str, Any]) -> str | None:
        """The group that a sample belongs to; None if it does not count."""
        return ""

    def groups(self, meta: Meta) -> dict[str, str]:
        """The group of every sample that counts, by sample id."""
        found = {sample: self.group(fields) for sample, fields in meta.items()}
        return {sample: group for sample, group in found.items() if group is not None}

    def units(self, name: str, per_sample: PerSample, meta: Meta) -> Units:
        groups = self.groups({sample: meta[sample] for sample in per_sample})
        weights = dict.fromkeys(groups.values(), 1 / max(1, len(set(groups.values()))))
        column = self.column or name
        if not self.unit:
            values = [per_sample[sample][column] for sample in groups]
            return Units(values, [(sample,) for sample in groups], list(groups.values()), weights)
        units: dict[tuple[str, str], list[str]] = {}
        for sample, group in groups.items():
            units.setdefault((group, str(meta[sample][self.unit])), []).append(sample)
        values = [fmean(per_sample[sample][column] for sample in members) for members in units.values()]
        return Units(values, list(units.values()), [group for group, _ in units], weights)

    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        """The mean of the groups' means; NaN without samples."""
        groups: dict[str, list[float]] = {}
        if not self.unit:
            column = self.column or name
            for sample, row in per_sample.items():
                if (group := self.group(meta[sample])) is not None:
                    groups.setdefault(group, []).append(row[column])
            return fmean(fmean(values) for values in groups.values()) if groups else math.nan
        units = self.units(name, per_sample, meta)
        for stratum, value in zip(units.strata, units.values, strict=True):
            groups.setdefault(stratum, []).append(value)
        return fmean(fmean(values) for values in groups.values()) if groups else math.nan


@dataclass(frozen=True, kw_only=True)
class MeanOfGroups(Mean):
    """The unweighted mean of the means of groups of samples, such as the halves of ChartQA.

    Attributes:
        key: the entry of ``meta`` that names a sample's group; every sample has it.
    """

    key: str

    def group(self, meta: Mapping[str, Any]) -> str | None:
        return str(meta[self.key])


@dataclass(frozen=True, kw_only=True)
class MeanWhere(Mean):
    """The mean over some of the samples, such as the questions of one type.

    Attributes:
        key: the entry of ``meta`` that decides; samples without it do not count.
        value: the category that the entry must name (see ``labels_of``); None for any.
    """

    key: str
    value: str | None = None

    def group(self, meta: Mapping[str, Any]) -> str | None:
        found = labels_of(meta.get(self.key))
        return "" if (self.value in found if self.value is not None else found) else None


@dataclass(frozen=True)
class SumOfMeans(Weighted):
    """A weighted sum of means, such as the sum of subtasks' scores, or the mean of two accuracies.

    Attributes:
        terms: each mean with its weight; one without samples is left out.
        maximum: the upper end of the scale, which begins at 0.
    """

    terms: Sequence[tuple[float, Mean]]
    maximum: float | None = PERCENT

    def units(self, name: str, per_sample: PerSample, meta: Meta) -> Units:
        values: list[float] = []
        members: list[Sequence[str]] = []
        strata: list[str] = []
        weights: dict[str, float] = {}
        for place, (weight, mean) in enumerate(self.terms):
            term = mean.units(name, per_sample, meta)
            values += term.values
            members += term.members
            strata += [f"{place}/{stratum}" for stratum in term.strata]
            weights |= {f"{place}/{stratum}": weight * part for stratum, part in term.weights.items()}
        return Units(values, members, strata, weights)

    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        """The sum over the terms that have samples; NaN if none has."""
        found = [(weight, mean.compute(name, per_sample, meta)) for weight, mean in self.terms]
        there = [weight * value for weight, value in found if value is not None and not math.isnan(value)]
        return math.fsum(there) if there else math.nan


@dataclass(frozen=True)
class OfSums(Aggregation):
    """A function of statistics summed over the samples, such as BLEU; one declaration may give several values.

    Attributes:
        statistics: each sample's, (columns,), by sample id.
        values: turns (draws, columns) sums into (draws,) values by name.
    """

    statistics: Mapping[str, Sequence[float]]
    values: Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]
    maximum: float | None = PERCENT

    # The metric may compute the value in another program, and the function is only used for intervals.
    tolerance = 1e-6

    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        import numpy as np

        if not self.statistics:
            return math.nan
        sums = np.array(list(self.statistics.values()), dtype=np.float64).sum(axis=0)
        return float(self.values(sums[None])[name][0])


@dataclass(frozen=True)
class OfWeights(Aggregation):
    """A value of all samples that can be computed for any number of copies of each, such as an average precision.

    One declaration may give several values.

    Attributes:
        strata: what each sample is drawn within, by sample id: resampling keeps the number of clusters of each stratum.
        values: turns (draws, samples) numbers of copies, in the order of ``strata``, into (draws,) values by name.
    """

    strata: Mapping[str, str]
    values: Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]
    maximum: float | None = PERCENT

    tolerance = 1e-6  # a library computes the value, and the function is only used for intervals

    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        import numpy as np

        if not self.strata:
            return math.nan
        return float(self.values(np.ones((1, len(self.strata)), dtype=np.int64))[name][0])


@dataclass(frozen=True)
class Corpus(Aggregation):
    """A value of all samples together that per-sample scores do not give; it has no interval.

    Attributes:
        reason: why, as a clause for messages.
    """

    reason: str = "the metric computes it from all samples together"
    maximum: float | None = PERCENT

    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        return None
