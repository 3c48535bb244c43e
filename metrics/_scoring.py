"""Shared by metrics: the text to score, means over samples, and means by category."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from evalkit.aggregation import PERCENT, Aggregation, MeanWhere, Meta, PerSample, labels_of
from evalkit.errors import UserError
from evalkit.types import LOCATED, Answered, Kind, Sample


def variant_of(metric: str, options: Mapping[str, Any], variants: Sequence[str]) -> str:
    """The option ``variant`` among ``options``, which are no others; the first of ``variants`` by default.

    Raises:
        ValueError: an unknown option or variant.
    """
    for key in options:
        if key != "variant":
            raise ValueError(f"{key} is no option of {metric}; there is variant")
    found = options.get("variant", variants[0])
    if found not in variants:
        raise ValueError(f"variant is {str(found)[:60]!r}; expected {', '.join(variants)}")
    return str(found)


def mean(column: Sequence[float]) -> float:
    """The mean of a column; NaN without samples."""
    return fmean(column) if column else math.nan


def means(per_sample: Mapping[str, Mapping[str, float]], columns: Iterable[str]) -> dict[str, float]:
    """The mean of each column over all samples."""
    return {column: mean([row[column] for row in per_sample.values()]) for column in columns}


def computed(declared: Mapping[str, Aggregation], per_sample: PerSample, meta: Meta) -> dict[str, float]:
    """The values that ``declared`` says how to compute from the samples, by name; none of them is a ``Corpus``."""
    found = {name: aggregation.compute(name, per_sample, meta) for name, aggregation in declared.items()}
    return {name: value for name, value in found.items() if value is not None}


def breakdown(
    key: str,
    answers: Sequence[Answered],
    per_sample: Mapping[str, Mapping[str, float]],
    column: str = "accuracy",
    maximum: float | None = PERCENT,
    *,
    name: str = "",
    unit: str = "",
) -> tuple[dict[str, float], dict[str, Aggregation]]:
    """The mean of ``column`` over the samples of each category that ``meta[key]`` names, and how it is computed.

    Args:
        name: of the values, before the category; empty for ``column``.
        unit: the entry of ``meta`` that names what counts once; empty if each sample does.

    Returns:
        Values and aggregations by ``name[category]``, sorted by category.
    """
    name = name or column
    categories: dict[str, dict[str, list[float]]] = {}
    for answered in answers:
        sample = answered.sample
        for label in labels_of(sample.meta.get(key)):
            counted = str(sample.meta[unit]) if unit else sample.id
            categories.setdefault(label, {}).setdefault(counted, []).append(per_sample[sample.id][column])
    values = {
        f"{name}[{label}]": mean([mean(unit_values) for unit_values in categories[label].values()])
        for label in sorted(categories)
    }
    declared: dict[str, Aggregation] = {
        f"{name}[{label}]": MeanWhere(column, maximum, key=key, value=label, unit=unit) for label in sorted(categories)
    }
    return values, declared


def breakdowns(
    keys: Iterable[str],
    answers: Sequence[Answered],
    per_sample: Mapping[str, Mapping[str, float]],
    column: str = "accuracy",
) -> tuple[dict[str, float], dict[str, Aggregation]]:
    """The breakdowns by each entry of ``meta`` that ``keys`` names, one after the other; see ``breakdown``."""
    values: dict[str, float] = {}
    declared: dict[str, Aggregation] = {}
    for key in keys:
        more, how = breakdown(key, answers, per_sample, column)
        values |= more
        declared |= how
    return values, declared


def check_text_samples(
    metric: str, samples: Sequence[Sample], kind: Kind, what: str = "answers", count: int | None = None
) -> None:
    """Check that a text metric can score ``samples``: references are texts, at least one or exactly ``count``.

    Raises:
        UserError: they are not, or the task asks for boxes; ``what`` the references are, for the message.
    """
    if kind in LOCATED or kind == "temporal_grounding":
        what, other = {
            "pointing": ("points", "point_in_box"),
            "detection": ("labelled boxes", "coco_ap"),
            "temporal_grounding": ("spans of time", "temporal_iou"),
        }.get(kind, ("boxes", "iou"))
        raise UserError(
            f"{metric}: this metric scores texts, and the task asks for {what}; choose a metric for {what} ({other})"
        )
    for sample in samples:
        if count is not None and len(sample.references) != count:
            raise wrong_count(metric, sample, what, count)
        if not sample.references:
            raise no_references(metric, sample, what)
        for reference in sample.references:
            if not isinstance(reference, str):
                raise UserError(
                    f"{metric}: sample {sample.id!r} has the reference {reference!r}, which is not a text; "
                    "check the annotation file"
                )


def no_references(metric: str, sample: Sample, what: str = "answers") -> UserError:
    """The error for a sample without references."""
    return UserError(
        f"{metric}: sample {sample.id!r} has no {what} to score against; "
        "choose a split whose annotations are public, or check the annotation file"
    )


def wrong_count(metric: str, sample: Sample, what: str, count: int) -> UserError:
    """The error for a sample whose number of references is not ``count``."""
    return UserError(
        f"{metric}: sample {sample.id!r} has {len(sample.references)} {what} to score against, expected {count}; "
        "choose a split whose annotations are public, or check the annotation file"
    )


def referenced(metric: str, answered: Answered, what: str = "answers") -> str | None:
    """As ``text``; raises ``UserError`` also for a sample without references (``what`` they are, for the message)."""
    if not answered.sample.references:
        raise no_references(metric, answered.sample, what)
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
