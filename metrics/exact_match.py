"""Exact match: the share of answers that are one of the annotated ones, case and outer spaces aside.

The score of OCR-VQA.  Paper: Mishra et al., "OCR-VQA: Visual Question Answering by Reading Text in Images", ICDAR 2019.
It came without a scorer.  Followed is ``evaluate_exact_match_accuracy`` of Qwen-VL (``eval_mm/evaluate_vqa.py``, commit
aa00ed04), the source of the OCR-VQA numbers in its README: both texts stripped and in lower case, then equal; any of
several annotated answers counts.  Qwen-VL's clean-up of GQA answers is not done for OCR-VQA.

So a trailing full stop, an article or another spacing is wrong.  Others are stricter still: pix2struct compares the
texts as they are, big_vision with or without lower case.

Deviation: where no answer could be read the question is wrong, even if the annotated answer is empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from evalkit.errors import UserError
from evalkit.types import Answered, Metric, Scores


def correct(prediction: str, reference: str) -> bool:
    """Whether the two are equal but for case and outer spaces."""
    return prediction.strip().lower() == reference.strip().lower()


class ExactMatch:
    """Accuracy by exact match, in percent.  ``references`` are the annotated answers, any of which counts."""

    name = "exact_match"
    immediate = True
    signature = "exact_match|norm:strip+lower|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: {"accuracy": self._one(answered)} for answered in answers}
        values = {"accuracy": _mean([row["accuracy"] for row in per_sample.values()])}
        return Scores(headline="accuracy", values=values, per_sample=per_sample, signature=self.signature)

    def _one(self, answered: Answered) -> float:
        """0 or 100."""
        sample, prediction = answered.sample, answered.reading.value
        if not sample.references:
            raise UserError(
                f"{self.name}: sample {sample.id!r} has no answers to score against; "
                "choose a split whose annotations are public, or check the annotation file"
            )
        if prediction is None:
            return 0.0
        if not isinstance(prediction, str):
            raise UserError(
                f"{self.name}: the answer to sample {sample.id!r} was read as a box, {prediction!r}; "
                "this metric scores texts, so the task's kind and its metric do not go together"
            )
        return 100.0 * any(correct(prediction, reference) for reference in sample.references)


def _mean(column: Sequence[float]) -> float:
    return fmean(column) if column else math.nan


METRIC: Metric = ExactMatch()
