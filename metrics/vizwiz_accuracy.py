r"""VizWiz accuracy: how many of the annotators gave the answer, three being enough.

Paper: Gurari et al., "VizWiz Grand Challenge: Answering Visual Questions from Blind People", 2018 (arXiv 1802.08218).
Official scorer: the VizWiz API, ``PythonEvaluationTools/vqaEvaluation/vqaEval.py``.  It is given out as an archive;
followed is the mirror in atharva-naik/MMML-TermProject-VizWiz-VQA-Challenge (``src/``, commit 06e49013).

It is a descendant of the VQAv2 script (``_vqa_text``) and differs from it in what looks like mistakes:

- *the annotators' answers are taken as they are*; only the prediction is normalised.  An annotator's answer with a
  capital, an article or punctuation can never be matched.
- *nobody is left out*: the script means to leave each annotator out in turn, but compares an entry with a text, so that
  none is ever equal.  The accuracy is ``min(1, matches / 3)``: 33.3, 66.7 and 100 % where leaving out gives 30, 60, 90.
- *typographic apostrophes*: most contractions gain U+2019, which the annotators rarely typed (``didnt`` becomes
  ``didn\u2019t``, which matches neither ``didnt`` nor ``didn't``).  Eight gain the straight one.

Values: ``accuracy`` follows that mirror.  ``accuracy_leave_one_out`` leaves annotators out by position and is otherwise
the same, as other copies of the API in circulation do (and lmms-eval, which normalises both sides); the two differ by
more than a point on real answers.

Deviations:

- Values keep full precision; the script rounds what it prints to two decimals.
- A question without annotators is an error of the data that names the question, not a division by zero.
- Where no answer could be read the question scores 0, even if an annotator's answer is empty.
- The script's caption metrics and its average precision for ``answerable`` are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from evalkit.errors import UserError
from evalkit.types import Answered, Metric, Scores

from . import _vqa_text
from ._vqa_text import ENOUGH, leave_one_out, process_digit_article, process_punctuation, strip_answer

_APOSTROPHE = str.maketrans("'", "\u2019")
_STRAIGHT_AFTER = frozenset(("aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"))
_STRAIGHT_BEFORE = frozenset(("couldn'tve", "hadn'tve"))

CONTRACTIONS = {
    before if before in _STRAIGHT_BEFORE else before.translate(_APOSTROPHE): (
        after if before in _STRAIGHT_AFTER else after.translate(_APOSTROPHE)
    )
    for before, after in _vqa_text.CONTRACTIONS.items()
}
"""The contractions of the VQAv2 script with the API's apostrophes, less those that can never change anything."""


def normalise(text: str) -> str:
    """``text`` as the API rewrites a prediction."""
    return process_digit_article(process_punctuation(strip_answer(text)), CONTRACTIONS)


class VizWizAccuracy:
    """VizWiz accuracy in percent, as the official API has it and with each annotator left out in turn.

    ``references`` are the annotators' answers, ten in the official files.  Where samples carry ``meta["answer_type"]``
    there is also an ``accuracy[type]`` for each type found.
    """

    name = "vizwiz_accuracy"
    immediate = True
    signature = "vizwiz_accuracy|norm:prediction|loo:none|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        keys = ("accuracy", "accuracy_leave_one_out")
        values = {key: _mean([row[key] for row in per_sample.values()]) for key in keys}
        by_type: dict[str, list[float]] = {}
        for answered in answers:
            answer_type = answered.sample.meta.get("answer_type")
            if answer_type is not None:
                by_type.setdefault(answer_type, []).append(per_sample[answered.sample.id]["accuracy"])
        values |= {f"accuracy[{answer_type}]": _mean(by_type[answer_type]) for answer_type in sorted(by_type)}
        return Scores(headline="accuracy", values=values, per_sample=per_sample, signature=self.signature)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's accuracies in percent."""
        sample, prediction = answered.sample, answered.reading.value
        if not sample.references:
            raise UserError(
                f"{self.name}: sample {sample.id!r} has no annotators' answers to score against; "
                "choose a split whose annotations are public, or check the annotation file"
            )
        if prediction is None:
            return {"accuracy": 0.0, "accuracy_leave_one_out": 0.0}
        if not isinstance(prediction, str):
            raise UserError(
                f"{self.name}: the answer to sample {sample.id!r} was read as a box, {prediction!r}; "
                "this metric scores texts, so the task's kind and its metric do not go together"
            )
        matches = sample.references.count(normalise(prediction))
        return {
            "accuracy": 100 * min(1.0, matches / ENOUGH),
            "accuracy_leave_one_out": 100 * leave_one_out(matches, len(sample.references)),
        }


def _mean(column: Sequence[float]) -> float:
    return fmean(column) if column else math.nan


METRIC: Metric = VizWizAccuracy()
