"""TextVQA accuracy: VQA accuracy with M4C's answer processor.

Papers: Singh et al., "Towards VQA Models That Can Read", 2019 (arXiv 1904.08920: TextVQA); Hu et al., "Iterative Answer
Prediction with Pointer-Augmented Multimodal Transformers for TextVQA", 2020 (arXiv 1911.06258: M4C).  Official scorer:
``TextVQAAccuracyEvaluator`` in ``mmf/utils/m4c_evaluators.py`` of facebookresearch/mmf (commit b0ffc7fb); LLaVA's
``llava/eval/m4c_evaluator.py`` (commit c121f043) computes the same.

Each of the ten annotators is left out in turn; the answer scores ``min(1, matches among the others / 3)``; the
question's accuracy is the mean.  So 0, 1, 2, 3, 4 matches give 0, 30, 60, 90, 100 %.  Unlike the official VQAv2
script, both sides are normalised for every question, with a tokeniser before the other steps (``text.m4c``), and
annotators are left out by position, so that equal answers count separately.

Deviations:

- A question without exactly ten answers is a data error, which names the question; upstream an assertion fails.
- If the answer cannot be parsed, the question scores 0, even if an annotator's answer is empty once normalised.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import check_text_samples, means, text, wrong_count
from .text.m4c import normalise
from .text.vqa import leave_one_out

ANNOTATORS = 10
"""Number of answers of a TextVQA question."""


def question_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """The accuracy of ``prediction``, in [0, 1], against the annotators' answers (at least one)."""
    prediction = normalise(prediction)
    return leave_one_out(sum(normalise(answer) == prediction for answer in answers), len(answers))


class TextVQAAccuracy(Metric):
    """TextVQA accuracy in percent.  ``references`` are the ten annotators' answers."""

    name = "textvqa_accuracy"
    running_score = True
    signature = "textvqa_accuracy|norm:m4c|loo:position|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, "annotators' answers", ANNOTATORS)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample has ten references."""
        per_sample = {answered.sample.id: {"accuracy": self._one(answered)} for answered in answers}
        values = means(per_sample, ["accuracy"])
        return Scores(headline="accuracy", values=values, per_sample=per_sample, signature=self.signature)

    def _one(self, answered: Answered) -> float:
        """A sample's accuracy in percent."""
        sample = answered.sample
        if len(sample.references) != ANNOTATORS:
            raise wrong_count(self.name, sample, "annotators' answers", ANNOTATORS)
        prediction = text(self.name, answered)
        if prediction is None:
            return 0.0
        return 100 * question_accuracy(prediction, sample.references)


METRIC = TextVQAAccuracy()
