"""Shared by metrics: the text to score, means over samples, and means by category."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from evalkit.aggregation import PERCENT, Aggregation, MeanWhere
from evalkit.errors import UserError
from evalkit.types import Answered


def mean(column: Sequence[float]) -> float:
    """The mean of a column; NaN without samples."""
    return fmean(column) if column else math.nan


def means(per_sample: Mapping[str, Mapping[str, float]], columns: Iterable[str]) -> dict[str, float]:
    """The mean of each column over all samples."""
    return {column: mean([row[column] for row in per_sample.values()]) for column in columns}


def parts(
    key: str,
    answers: Sequence[Answered],
    per_sample: Mapping[str, Mapping[str, float]],
    column: str = "accuracy",
    maximum: float | None = PERCENT,
) -> tuple[dict[str, float], dict[str, Aggregation]]:
    """The mean of ``column`` over the samples of each kind that ``meta[key]`` names, and the declarations of these.

    Returns:
        Values and aggregations by ``column[kind]``, sorted by kind.
    """
    kinds: dict[str, list[float]] = {}
    for answered in answers:
        if (kind := answered.sample.meta.get(key)) is not None:
            kinds.setdefault(kind, []).append(per_sample[answered.sample.id][column])
    values = {f"{column}[{kind}]": mean(kinds[kind]) for kind in sorted(kinds)}
    declared: dict[str, Aggregation] = {
        f"{column}[{kind}]": MeanWhere(column, maximum, key=key, value=str(kind)) for kind in sorted(kinds)
    }
    return values, declared


def referenced(metric: str, answered: Answered, what: str = "answers") -> str | None:
    """As ``text``; raises ``UserError`` also for a sample without references (``what`` they are, for the message)."""
    if not answered.sample.references:
        raise UserError(
            f"{metric}: sample {answered.sample.id!r} has no {what} to score against; "
            "choose a split whose annotations are public, or check the annotation file"
        )
    return text(metric, answered)


def text(metric: str, answered: Answered) -> str | None:
    """The answer as text; None if it could not be parsed.  Raises ``UserError`` for a box."""
    found = answered.prediction.value
    if found is not None and not isinstance(found, str):
        raise UserError(
            f"{metric}: the answer to sample {answered.sample.id!r} was parsed as a box, {found!r}; "
            "this metric scores text: the task's kind does not match its metric"
        )
    return found
