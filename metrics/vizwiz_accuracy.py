r"""VizWiz accuracy: agreement with the annotators' answers; three matches give full score.

Paper: Gurari et al., "VizWiz Grand Challenge: Answering Visual Questions from Blind People", 2018 (arXiv 1802.08218).
Official scorer: the VizWiz API, ``PythonEvaluationTools/vqaEvaluation/vqaEval.py``.  It is distributed as an archive;
this file follows the mirror in atharva-naik/MMML-TermProject-VizWiz-VQA-Challenge (``src/``, commit 06e49013).

It is derived from the VQAv2 script (``text.vqa``).  The differences look like mistakes:

- *annotators' answers are not normalised*, only the prediction is.  An annotator's answer with a capital, an article or
  punctuation can never be matched.
- *no annotator is left out*: the script intends to leave each annotator out in turn, but compares an entry with a text,
  which are never equal.  The accuracy is ``min(1, matches / 3)``: 33.3, 66.7 and 100 %, not 30, 60 and 90.
- *typographic apostrophes*: most contractions get U+2019, which the annotators rarely typed (``didnt`` becomes
  ``didn\u2019t``, which matches neither ``didnt`` nor ``didn't``).  Eight get the straight one.

Values: ``accuracy`` follows that mirror.  ``accuracy_leave_one_out`` differs only in leaving annotators out by
position, as other copies of the API in circulation do (and lmms-eval, which normalises both sides); the two differ by
more than a point on real answers.

Deviations:

- Values keep full precision; the script rounds what it prints to two decimals.
- A question without annotators is a data error, which names the question, not a division by zero.
- If the answer cannot be parsed, the question scores 0, even if an annotator's answer is empty.
- The script's caption metrics and its average precision for ``answerable`` are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, means, referenced
from .text import vqa
from .text.vqa import ENOUGH, leave_one_out, process_digit_article, process_punctuation, strip_answer

_APOSTROPHE = str.maketrans("'", "\u2019")
_STRAIGHT_AFTER = frozenset(("aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"))
_STRAIGHT_BEFORE = frozenset(("couldn'tve", "hadn'tve"))

CONTRACTIONS = {
    before if before in _STRAIGHT_BEFORE else before.translate(_APOSTROPHE): (
        after if before in _STRAIGHT_AFTER else after.translate(_APOSTROPHE)
    )
    for before, after in vqa.CONTRACTIONS.items()
}
"""The contractions of the VQAv2 script with the API's apostrophes, without those that never change anything."""


def normalise(text: str) -> str:
    """``text`` as the API rewrites a prediction."""
    return process_digit_article(process_punctuation(strip_answer(text)), CONTRACTIONS)


class VizWizAccuracy(Metric):
    """VizWiz accuracy in percent, as the official API computes it and with each annotator left out in turn.

    ``references`` are the annotators' answers, ten in the official files.  Where samples carry ``meta["answer_type"]``
    there is also an ``accuracy[type]`` for each type found.
    """

    name = "vizwiz_accuracy"
    running_score = True
    signature = "vizwiz_accuracy|norm:prediction|loo:none|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, "annotators' answers")

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "accuracy_leave_one_out"))
        more, declared = breakdown("answer_type", answers, per_sample)
        return Scores("accuracy", values | more, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's accuracies in percent."""
        sample, prediction = answered.sample, referenced(self.name, answered, "annotators' answers")
        if prediction is None:
            return {"accuracy": 0.0, "accuracy_leave_one_out": 0.0}
        matches = sample.references.count(normalise(prediction))
        return {
            "accuracy": 100 * min(1.0, matches / ENOUGH),
            "accuracy_leave_one_out": 100 * leave_one_out(matches, len(sample.references)),
        }


METRIC = VizWizAccuracy()
