"""MathVista accuracy: the share of extracted answers that equal the right one after normalisation.

Paper: Lu et al., "MathVista: Evaluating Mathematical Reasoning of Foundation Models in Visual Contexts", ICLR 2024
(arXiv 2310.02255).  Official scorer: ``evaluation/calculate_score.py`` of lupantech/MathVista (commit 53d5258).  There,
GPT-4 extracts a short answer from each response first (``extract_answer.py``); what is scored are these extractions.

Variants, by name:

- ``mathvista_accuracy``: the official normalisation of *extractions*.  Of a multiple-choice problem, a letter, in
  brackets or alone, stands for its option, and any other text for the option that is nearest by edit distance, even an
  empty text; integers are truncated, and other numbers rounded to the problem's precision; lists are compared as texts.
- ``mathvista_vlmevalkit``: the part of open-compass/VLMEvalKit (commit e8e78f0, ``post_check``) that needs no judge,
  applied to complete responses: an option by its rule for letters, or a response that is nothing but
  the number.  Its judge extracts the others, so that the value is a lower bound.  A list is never right there.

Quirks reproduced: ``1_000`` and `` 12 `` are integers, as for Python; the first of several options at the same distance
is taken.  Scores that were stored before the official scorer read ``3.0`` as an integer can be lower.

Deviation: a response without a prediction (reasoning that was cut off, a sample that failed) is wrong, while the
official scorer takes an empty extraction for the option nearest to an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.letters import VLMEVALKIT, read_letter
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdowns, check_text_samples, means, referenced
from .anls import edit_distance

KEYS = ("question_type", "answer_type", "language", "source", "category", "task", "context", "grade", "skills")
"""The entries of ``meta`` by which the official scorer has breakdowns."""
CHOICE, INTEGER, FLOAT, LIST = "multi_choice", "integer", "float", "list"
LONGEST = 10_000
"""Characters of an extraction that are compared with options."""

LOWER_BOUND = "a lower bound: VLMEvalKit asks a judge about the answers that these rules leave open"

_LETTER = re.compile(r"\(([a-zA-Z])\)")


def normalised(sample: Sample, extraction: str) -> str | None:
    """An extraction as the official scorer normalises it; None if it is not of the answer's type."""
    options = [str(option) for option in sample.options]
    if sample.meta["question_type"] == CHOICE:
        extraction = extraction.strip()
        letters = _LETTER.findall(extraction)
        if letters:
            extraction = letters[0].upper()
        places = [chr(ord("A") + place) for place in range(len(options))]
        if extraction in places:
            return options[places.index(extraction)]
        extraction = extraction[:LONGEST]
        return min(options, key=lambda option: edit_distance(extraction, option, LONGEST + len(option)))
    return _number(sample, extraction)


def _number(sample: Sample, extraction: str) -> str | None:
    answer_type = sample.meta["answer_type"]
    try:
        if answer_type == INTEGER:
            return str(int(float(extraction)))
        if answer_type == FLOAT:
            return str(round(float(extraction), int(float(sample.meta["precision"]))))
    except (ValueError, OverflowError):
        return None
    return extraction


def is_right_for_vlmevalkit(sample: Sample, response: str) -> bool:
    """Whether a complete response is right by the part of VLMEvalKit's rules that needs no judge."""
    right, answer_type = sample.references[0], sample.meta["answer_type"]
    if sample.meta["question_type"] == CHOICE:
        options = [str(option) for option in sample.options]
        letter = read_letter(response, list(options), VLMEVALKIT).letter
        return letter is not None and options[ord(letter) - ord("A")] == right
    try:
        if answer_type == INTEGER:
            return int(response) == int(right)
        return answer_type == FLOAT and float(response) == float(right)
    except ValueError:
        return False


class MathVistaAccuracy(Metric):
    """Accuracy and parse rate in percent.

    ``references`` is the right answer (of a multiple-choice problem, the option's text).  ``meta`` has its
    ``question_type``, ``answer_type`` and ``precision``.  Where samples carry ``meta`` of ``KEYS`` there is also an
    ``accuracy[…]`` for each value found.  Columns: ``accuracy`` and ``parse_rate``, each 0 or 100.

    Args:
        official: whether answers are extractions and the official rules apply, or VLMEvalKit's, to responses.
    """

    running_score = True
    meta_keys = ("question_type", "answer_type", "precision")
    right_column = "accuracy"

    def __init__(self, name: str, *, official: bool) -> None:
        self.name = name
        self.official = official

    @property
    def signature(self) -> str:
        return f"{self.name}|{'of:extractions' if self.official else f'prefetch|letters:{VLMEVALKIT}'}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)
        for sample in samples:
            self._check_types(sample)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without a reference."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdowns(KEYS, answers, per_sample)
        values |= more
        notes = [] if self.official else [LOWER_BOUND]
        return Scores("accuracy", values, per_sample, self.signature, declared, notes)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        sample, text = answered.sample, referenced(self.name, answered)
        self._check_types(sample)
        if text is None:
            right = False
        elif self.official:
            right = normalised(sample, text) == sample.references[0]
        else:
            right = is_right_for_vlmevalkit(sample, text)
        return {"accuracy": 100.0 * right, "parse_rate": 100.0 * (text is not None)}

    def _check_types(self, sample: Sample) -> None:
        """Raise ``UserError`` if ``meta`` does not say what kind of answer is right."""
        meta = sample.meta
        choice = meta.get("question_type") == CHOICE
        known = meta.get("answer_type") in (INTEGER, LIST) or (
            meta.get("answer_type") == FLOAT and isinstance(meta.get("precision"), int | float)
        )
        if not (sample.options if choice else known):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has neither options nor an answer_type (integer, float with a "
                "precision, list) in meta; this metric scores MathVista only"
            )


METRICS = {
    metric.name: metric
    for metric in (
        MathVistaAccuracy("mathvista_accuracy", official=True),
        MathVistaAccuracy("mathvista_vlmevalkit", official=False),
    )
}
