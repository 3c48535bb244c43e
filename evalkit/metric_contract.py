"""What every metric must satisfy: checked on its results, and tried out before a model is loaded.

``docs/extending.md`` states the contract for authors of metrics.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from evalkit.aggregation import PERCENT, Aggregation
from evalkit.errors import UserError
from evalkit.types import Answered, Kind, Prediction, Sample, Scores

RESERVED = ("id", "cluster", "stratum", "repeats", "statistics")
"""Keys of a line of per-sample scores that are not columns."""
TRIED = 4
"""Samples on which a metric is tried out."""


class ScoringMetric(Protocol):
    """What is used of ``evalkit.interfaces.Metric``, which depends on this module."""

    @property
    def name(self) -> str: ...

    @property
    def aggregation(self) -> Mapping[str, Aggregation]: ...

    @property
    def right_column(self) -> str: ...

    def check(self, samples: Sequence[Sample], kind: Kind) -> None: ...

    def score(self, answers: Sequence[Answered]) -> Scores: ...


def score_answers(metric: ScoringMetric, answers: Sequence[Answered]) -> Scores:
    """The metric's scores with plain numbers and with every aggregation that it declares.

    Raises:
        UserError: the answers cannot be scored, or the scores break the contract.
    """
    scores = metric.score(answers)
    if not isinstance(scores, Scores):
        raise UserError(
            f"the metric {metric.name}: score() returned {type(scores).__name__}; return evalkit.types.Scores."
        )
    scores = _with_plain_numbers(metric.name, scores)
    scores = replace(scores, aggregation={**metric.aggregation, **scores.aggregation})
    _check_shape(metric.name, scores, answers)
    _check_right(metric, scores)
    _check_values(metric.name, scores, {a.sample.id: a.sample.meta for a in answers})
    return scores


def _check_shape(name: str, scores: Scores, answers: Sequence[Answered]) -> None:
    """Check names and samples.  Raises ``UserError``."""
    if scores.headline not in scores.values:
        raise UserError(
            f"the metric {name}: its headline {scores.headline!r} is not among its values ({', '.join(scores.values)})."
        )
    if not isinstance(scores.signature, str) or scores.signature.split("|")[0] != name or "\n" in scores.signature:
        raise UserError(
            f"the metric {name}: its signature is {scores.signature!r}; expected one line that begins with its name, "
            f"such as {name}|v1."
        )
    ids = {answered.sample.id for answered in answers}
    if scores.per_sample.keys() != ids:
        missing, unknown = ids - scores.per_sample.keys(), scores.per_sample.keys() - ids
        raise UserError(
            f"the metric {name}: per_sample must have an entry for each of the {len(ids):,} samples; "
            f"{len(missing):,} are missing and {len(unknown):,} are of other samples."
        )
    columns = {column for row in scores.per_sample.values() for column in row}
    if taken := columns.intersection(RESERVED):
        raise UserError(f"the metric {name}: a per-sample column is called {min(taken)!r}; rename it, it is reserved.")
    for value, declared in scores.aggregation.items():
        if not isinstance(declared, Aggregation):
            raise UserError(
                f"the metric {name}: aggregation[{value!r}] is {declared!r}; expected an instance of a class in "
                "evalkit.aggregation (Mean, MeanOfGroups, MeanWhere, SumOfMeans, OfSums, Corpus)."
            )
    headline = scores.headline
    if ids and headline not in scores.aggregation and headline not in columns:
        raise UserError(
            f"the metric {name}: its headline {headline} is neither a column of the per-sample scores, whose mean it "
            f"would be, nor declared; declare how it is computed: aggregation = {{{headline!r}: Corpus()}} for a value "
            "of all samples together, or OfSums(…) if it is a function of summed statistics (evalkit.aggregation)."
        )


def _check_right(metric: ScoringMetric, scores: Scores) -> None:
    """Check that the column of right and wrong answers has no other values.  Raises ``UserError``."""
    column = metric.right_column
    for sample, row in scores.per_sample.items() if column else ():
        if row.get(column) not in (0.0, PERCENT):
            raise UserError(
                f"the metric {metric.name} declares right_column = {column!r}, and sample {sample!r} has "
                f"{row.get(column, 'no such score')} there; expected 100 for right and 0 for wrong."
            )


def _check_values(name: str, scores: Scores, meta: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the samples give every value as declared.  Raises ``UserError``."""
    if meta and not math.isfinite(scores.values[scores.headline]):
        raise UserError(
            f"the metric {name} gives {scores.headline} = {scores.values[scores.headline]} for {len(meta):,} answers; "
            "a score must be a number."
        )
    for value, number in scores.values.items():
        declared = scores.aggregation_of(value)
        try:
            agrees = declared.agrees(value, number, scores.per_sample, meta)
        except KeyError as error:
            raise UserError(
                f"the metric {name} declares {value} as {type(declared).__name__}, but a sample has no {error}; "
                "correct the metric's per-sample scores, or its aggregation (evalkit.aggregation)."
            ) from error
        if not agrees:
            raise UserError(
                f"the metric {name} gives {value} = {number:g}, but its samples give "
                f"{declared.compute(value, scores.per_sample, meta):g} ({type(declared).__name__}); declare how the "
                "value is computed (evalkit.aggregation; Corpus if not from per-sample scores)."
            )


def _with_plain_numbers(name: str, scores: Scores) -> Scores:
    """The scores with Python's floats: numpy's and torch's numbers cannot be written as JSON."""
    for what, found in (("values", scores.values), ("per_sample", scores.per_sample)):
        if not isinstance(found, Mapping):
            raise UserError(f"the metric {name}: {what} is {type(found).__name__}; expected a dictionary.")
    values = {key: _plain(name, key, value) for key, value in scores.values.items()}
    rows = scores.per_sample
    if not all(type(value) is float for row in rows.values() for value in row.values()):
        rows = {
            sample: {key: _plain(name, key, value, sample) for key, value in row.items()}
            for sample, row in rows.items()
        }
    return replace(scores, values=values, per_sample=rows)


def _plain(name: str, key: str, value: Any, sample: str | None = None) -> float:
    """``value`` as a float.  Raises ``UserError`` if it is not a number."""
    if type(value) is float:
        return value
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        where = "" if sample is None else f" for sample {sample!r}"
        raise UserError(
            f"the metric {name} gives {key} = {value!r}{where}, which is not a number; correct the metric."
        ) from None


# ------------------------------------------------------------------------------------------------------------- trials


def check_metric(metric: ScoringMetric, samples: Sequence[Sample], kind: Kind, where: str) -> None:
    """Check that ``metric`` can score ``samples``; called before a model is loaded.

    Args:
        where: ``task/split``, for messages.

    Raises:
        UserError: the samples do not fit the metric, the metric breaks the contract, or something that it needs is
            missing.
    """
    try:
        metric.check(samples, kind)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:
        raise UserError(f"{where}: the metric {metric.name} failed before the run: {describe(error)}.") from error


def try_out(metric: ScoringMetric, samples: Sequence[Sample], kind: Kind) -> None:
    """Score made-up answers to the first samples: right, wrong and unparsed ones.

    Raises:
        UserError: the metric cannot score them, or breaks the contract.
    """
    few = samples[:TRIED]
    for shift in range(3):
        answers = [
            Answered(sample, Prediction(made_up(sample, sample.kind or kind)[(place + shift) % 3]))
            for place, sample in enumerate(few)
        ]
        score_answers(metric, answers)


def made_up(sample: Sample, kind: Kind) -> tuple[Any, Any, None]:
    """A right answer, a wrong one, and none."""
    first: Any = sample.references[0] if sample.references else ""
    if kind == "pointing":
        box = first or (0.0, 0.0, 1.0, 1.0)
        return ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), (-1.0, -1.0), None
    if kind == "detection":
        found = tuple({"label": one["label"], "box": one["box"]} for one in sample.references)
        return found, (), None
    if kind == "grounding":
        return first or (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0), None
    if kind == "temporal_grounding":
        return first or (0.0, 1.0), (-2.0, -1.0), None
    if kind == "choice":
        return str(first), "B" if first == "A" else "A", None
    if kind == "yes_no":
        return str(first), "no" if first == "yes" else "yes", None
    return str(first), "evalkit", None


def describe(error: BaseException) -> str:
    """An unexpected error in a line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + text[0] if text else ''}{place}"
