"""Exact match: the share of answers equal to an annotated one, ignoring case and outer spaces.

The score of OCR-VQA.  Paper: Mishra et al., "OCR-VQA: Visual Question Answering by Reading Text in Images", ICDAR 2019.
It was published without a scorer.  This file follows ``evaluate_exact_match_accuracy`` of Qwen-VL
(``eval_mm/evaluate_vqa.py``, commit aa00ed04), the source of the OCR-VQA numbers in its README: both texts are stripped
and compared in lower case; any of several annotated answers counts.  Qwen-VL's clean-up of GQA answers is not done for
OCR-VQA.

So an answer with a trailing full stop, an article or different spacing is wrong.  Others are stricter still: pix2struct
compares the texts as they are, big_vision with or without lower case.

Deviation: if the answer cannot be parsed, the question is wrong, even if the annotated answer is empty.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import check_text_samples, means, referenced


def correct(prediction: str, reference: str) -> bool:
    """Whether the two are equal, ignoring case and outer spaces."""
    return prediction.strip().lower() == reference.strip().lower()


class ExactMatch(Metric):
    """Accuracy by exact match, in percent.  ``references`` are the annotated answers, any of which counts."""

    name = "exact_match"
    running_score = True
    right_column = "accuracy"
    signature = "exact_match|norm:strip+lower|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: {"accuracy": self._one(answered)} for answered in answers}
        values = means(per_sample, ["accuracy"])
        return Scores(headline="accuracy", values=values, per_sample=per_sample, signature=self.signature)

    def _one(self, answered: Answered) -> float:
        """0 or 100."""
        sample, prediction = answered.sample, referenced(self.name, answered)
        if prediction is None:
            return 0.0
        return 100.0 * any(correct(prediction, reference) for reference in sample.references)


METRIC = ExactMatch()
