"""How a metric's values come from its per-sample scores.

A metric declares this per value, on itself or in its ``Scores``; every value then gets its confidence interval without
guessing.  A declaration is checked against the value: a metric whose samples do not give its value is refused.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
class Mean(Aggregation):
    """The mean over all samples.

    Attributes:
        column: of the per-sample scores; empty for the one named like the value.
        maximum: the upper end of the scale, which begins at 0; None if it has none.
    """

    column: str = ""
    maximum: float | None = PERCENT

    def group(self, meta: Mapping[str, Any]) -> str | None:
        """The group that a sample belongs to; None if it does not count."""
        return ""

    def groups(self, meta: Meta) -> dict[str, str]:
        """The group of every sample that counts, by sample id."""
        found = {sample: self.group(fields) for sample, fields in meta.items()}
        return {sample: group for sample, group in found.items() if group is not None}

    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        """The mean of the groups' means; NaN without samples."""
        groups: dict[str, list[float]] = {}
        for sample, group in self.groups({sample: meta[sample] for sample in per_sample}).items():
            groups.setdefault(group, []).append(per_sample[sample][self.column or name])
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
class Corpus(Aggregation):
    """A value of all samples together that per-sample scores do not give; it has no interval.

    Attributes:
        reason: why, as a clause for messages.
    """

    reason: str = "the metric computes it from all samples together"
    maximum: float | None = PERCENT

    def compute(self, name: str, per_sample: PerSample, meta: Meta) -> float | None:
        return None
