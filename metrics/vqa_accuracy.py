"""VQA accuracy: agreement with the annotators' answers; three matches give full score.

Papers: Antol et al., "VQA: Visual Question Answering", 2015 (arXiv 1505.00468); Goyal et al., "Making the V in VQA
Matter", 2017 (arXiv 1612.00837).  Official scorer: ``vqaEval.py`` of GT-Vision-Lab/VQA (commit a013f004).

Each annotator is left out in turn; the answer scores ``min(1, matches among the others / 3)``; the question's accuracy
is the mean over annotators.  With ten annotators, 0, 1, 2, 3, 4 matches give 0, 30, 60, 90, 100 %.

Variants differ in what is normalised (the steps and their quirks are in ``text.vqa``):

- ``normalised``: prediction and annotators' answers, for every question.  The headline ``accuracy``: the EvalAI server,
  from which published VQAv2 numbers come, does this, and so does lmms-eval since its pull request 794.
- ``official_script``: the official script to the letter.  Answers are normalised, on both sides, only when the
  annotators' stripped answers are not all the same; for a unanimous question, case and punctuation matter.  (Intended:
  its author wanted to leave text that occurs in the image unchanged, GT-Vision-Lab/VQA issue 14.)  Reported next to the
  headline as ``accuracy_official_script``.
- ``qwen-vl``: Qwen-VL's ``eval_mm/vqa_eval.py`` (commit aa00ed04, derived from LAVIS).  The prediction is always
  normalised; of the annotators' answers only punctuation is processed, and only when they are not all the same.  So an
  annotator's answer with a capital, an article or a number word is never matched.

Quirks of the script reproduced in all variants:

- *leave-one-out by equality*: every entry equal to the one left out is left out with it, key and normalised answer
  compared.  It matters only where annotators share an ``answer_id``.
- a single annotator can never be matched: accuracy 0.

Deviations:

- ``METRIC`` treats every reference as a separate annotator, so a repeated ``answer_id`` in a file has no effect.
- Version 1 of this metric had ``official_script`` as the headline (``norm:official`` in signatures) and ``normalised``
  as ``accuracy_normalised``.
- Values keep full precision; the script rounds what it prints to two decimals (``official_percent``).
- Rounding of ties, digits and case follow Python 3 (upstream is Python 2: 5.625 is printed 5.63 there, 5.62 here).
- A question without annotators is a data error, which names the question, not a division by zero.
- If the answer cannot be parsed, the question scores 0, even if an annotator's answer is empty.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, get_args

from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, means, referenced, variant_of
from .text.vqa import ENOUGH, normalise, process_punctuation, strip_answer

Variant = Literal["normalised", "official_script", "qwen-vl"]

Annotation = tuple[Hashable, str]
"""(key of the annotator's entry, its answer)."""


def question_accuracy(prediction: str, annotations: Sequence[Annotation], variant: Variant) -> float:
    """The accuracy of ``prediction``, in [0, 1], against the annotators' entries.

    Raises ``ValueError`` when there are no entries.
    """
    if not annotations:
        raise ValueError("VQA accuracy needs at least one annotator")
    prediction, answers = _rewritten(prediction, [answer for _, answer in annotations], variant)
    entries = [(key, answer) for (key, _), answer in zip(annotations, answers, strict=True)]
    matching = Counter(entry for entry in entries if entry[1] == prediction)
    matches = matching.total()
    # Leaving out an entry takes its matching equals away: itself and its duplicates, or nothing when it does not match.
    return math.fsum(min(1.0, (matches - matching[entry]) / ENOUGH) for entry in entries) / len(entries)


def _rewritten(prediction: str, answers: Sequence[str], variant: Variant) -> tuple[str, list[str]]:
    """Prediction and annotators' answers as ``variant`` compares them."""
    if variant == "qwen-vl":
        disagree = len(set(answers)) > 1  # unstripped, unlike the official script
        return normalise(prediction), [process_punctuation(answer) if disagree else answer for answer in answers]
    if variant == "official_script" and _unanimous(answers):
        return strip_answer(prediction), [strip_answer(answer) for answer in answers]
    return normalise(prediction), [normalise(answer) for answer in answers]


def _unanimous(answers: Sequence[str]) -> bool:
    """Whether all annotators gave the same answer, outer spaces aside."""
    return len({strip_answer(answer) for answer in answers}) == 1


def official_percent(accuracies: Sequence[float], digits: int = 2) -> float:
    """The mean of ``accuracies`` (each in [0, 1], at least one) as the official script prints it: percent, rounded."""
    return round(100 * math.fsum(accuracies) / len(accuracies), digits)


class VQAAccuracy(Metric):
    """VQA accuracy in percent: ``accuracy`` by the given ``variant``, ``accuracy_official_script`` by the script.

    ``references`` are the annotators' answers in file order.  Where samples carry ``meta["answer_type"]`` there is also
    an ``accuracy[type]`` for each type found.
    """

    name = "vqa_accuracy"
    running_score = True

    def __init__(self, variant: Variant = "normalised") -> None:
        if variant not in get_args(Variant):
            raise ValueError(f"unknown VQA accuracy variant {variant!r}; expected {', '.join(get_args(Variant))}")
        self.variant: Variant = variant

    def configured(self, options: Mapping[str, Any]) -> VQAAccuracy:
        """The metric in another variant (option ``variant``); see ``Metric``.  Raises ``ValueError``."""
        found = type(self)(variant_of(self.name, options, get_args(Variant)))  # type: ignore[arg-type]
        found.name = self.name if found.variant == self.variant else f"{self.name}_{found.variant}"
        return found

    @property
    def signature(self) -> str:
        """Normalisation, how annotators are left out, and this file's version, raised whenever a score could change."""
        return f"{self.name}|norm:{self.variant}|loo:entry|v2"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, "annotators' answers")

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "accuracy_official_script"))
        more, declared = breakdown("answer_type", answers, per_sample)
        return Scores("accuracy", values | more, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's accuracies in percent."""
        sample, prediction = answered.sample, referenced(self.name, answered, "annotators' answers")
        if prediction is None:
            return {"accuracy": 0.0, "accuracy_official_script": 0.0}
        annotations = tuple(enumerate(sample.references))
        accuracy = 100 * question_accuracy(prediction, annotations, self.variant)
        if self.variant == "normalised" and not _unanimous(sample.references):
            script = accuracy  # the two variants differ for unanimous questions only
        else:
            script = 100 * question_accuracy(prediction, annotations, "official_script")
        return {"accuracy": accuracy, "accuracy_official_script": script}


METRIC = VQAAccuracy("normalised")
