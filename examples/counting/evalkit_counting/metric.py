"""Counting error: the share of exact counts, and how far the others are off.

Paper: none; this metric is an example.  A count may be written in digits or, up to ten, as a word.

An answer in which nothing could be read is wrong, and as far off as the answer 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from types import MappingProxyType

from evalkit.aggregation import Mean
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Scores

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def count(text: str) -> int | None:
    """The number that ``text`` is; None where it is something else."""
    number = text.strip().rstrip(".").lower()
    if number in WORDS:
        return WORDS.index(number)
    return int(number) if number.isascii() and number.isdigit() else None


class CountError(Metric):
    """``accuracy`` in percent, and ``mean_absolute_error`` in things."""

    name = "count_error"
    running_score = True  # a sample's score depends on no other sample: a run shows the score so far
    aggregation = MappingProxyType({"mean_absolute_error": Mean(maximum=None)})  # not percent: no upper end

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer.  Raises ``UserError`` for a reference that is not a number."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = {
            key: fmean(row[key] for row in per_sample.values()) if per_sample else math.nan
            for key in ("accuracy", "mean_absolute_error")
        }
        return Scores("accuracy", values, per_sample, signature="count_error|words:10|unread:0|v1")

    def _one(self, answered: Answered) -> dict[str, float]:
        truth = count(str(answered.sample.references[0])) if answered.sample.references else None
        if truth is None:
            raise UserError(f"{self.name}: sample {answered.sample.id} has no number to score against.")
        number = count(str(answered.prediction.value)) if answered.prediction.parsed else None
        return {
            "accuracy": 100.0 * (number == truth),
            "mean_absolute_error": float(abs((number or 0) - truth)),
        }


METRIC = CountError()
