"""MATH-Vision accuracy: the share of problems whose extracted answer equals the right one.

Paper: Wang et al., "Measuring Multimodal Mathematical Reasoning with MATH-Vision Dataset", NeurIPS 2024 (arXiv
2402.14804).  Official scorer: ``evaluation/evaluate.py`` of mathllm/MATH-V (commit a1f5cc3): the answer is extracted
from the complete response (``text/math_answers.py``) and compared with the right letter and with that option's text:
as texts, and by their values, rounded to two decimals.

Variants, by name:

- ``mathvision_accuracy``: the official one.
- ``mathvision_vlmevalkit``: the part of open-compass/VLMEvalKit (commit e8e78f0, ``MATH_V``) that needs no judge: the
  first ``\\boxed{…}`` or the complete answer; an option letter by its rule for letters, other answers by values that
  differ by less than 1e-6.  There a judge extracts answers that this leaves open, so that the value is a lower bound.

Deviations:

- The official comparison computes values with latex2sympy, which is not maintained (it needs antlr 4.7), and runs the
  result as Python.  Here ``text/latex_values.py`` computes them, and nothing is executed.  On 21,280 published answers
  of seven models both judge the same.  latex2sympy reads more notation (sums, matrices, integrals); a pair of answers
  in such notation is equal here only if the texts are.
- VLMEvalKit's comparison runs the answers as Python; here only arithmetic is understood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from evalkit.interfaces import Metric
from evalkit.letters import VLMEVALKIT, read_letter
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdowns, check_text_samples, means, referenced
from .text.latex_values import Value, latex_value, rounded
from .text.math_answers import math_vision_answer

DECIMALS = 2
TOLERANCE = 1e-6
KEYS = ("subject", "level")
"""The entries of ``meta`` by which there are breakdowns."""
_SYMBOLS = ("a", "-a")
_BOXED = re.compile(r"\\boxed\{([^}]*+)\}")


def are_equal(right: str, given: str) -> bool:
    """Whether two answers are equal: as texts in lower case, as tuples, or by their values to two decimals."""
    right, given = right.lower(), given.lower()
    if not right.replace(" ", "") or not given.replace(" ", ""):
        return False
    if right.strip() == given.strip():
        return True
    right, given = _with_values(right), _with_values(given)
    if right == given:
        return True
    wanted, found = latex_value(right), latex_value(given)
    return wanted is not None and found is not None and bool(rounded(wanted, DECIMALS) == rounded(found, DECIMALS))


def _with_values(text: str) -> str:
    """``(a, b, …)`` or ``[a, b, …]`` with the values of its elements; ``text`` itself if one has none."""
    parts = text[1:-1].split(",")
    if text[0] + text[-1] not in ("()", "[]") or len(parts) < 2:
        return text
    found = []
    for part in parts:
        value = None if "infty" in part or part in _SYMBOLS else latex_value(part)
        if value is None and "infty" not in part and part not in _SYMBOLS:
            return text
        integer = isinstance(value, Fraction) and value.denominator == 1
        found.append(part if value is None else str(int(value)) if integer else str(rounded(value, DECIMALS)))
    return f"{text[0]}{','.join(found)}{text[-1]}"


def is_right_officially(sample: Sample, text: str) -> bool:
    """Whether a complete response is right by the official rules; references are the letter and its option's text."""
    answer = math_vision_answer(text)
    return any(are_equal(reference, answer) for reference in sample.references)


def is_right_for_vlmevalkit(sample: Sample, text: str) -> bool:
    """Whether an answer is right by the part of VLMEvalKit's rules that needs no judge."""
    boxed = _BOXED.search(text)
    answer = text if boxed is None else boxed[1]
    right = sample.references[0]
    if sample.options:
        options = [option if isinstance(option, str) else None for option in sample.options]
        return bool(read_letter(answer, options, VLMEVALKIT).letter == right)
    wanted, found = right.lower().strip(), answer.lower().strip()
    if wanted == found:
        return True
    return _near(latex_value(wanted), latex_value(found))


def _near(a: Value | None, b: Value | None) -> bool:
    try:
        return a is not None and b is not None and abs(float(a) - float(b)) < TOLERANCE
    except OverflowError:
        return a == b


class MathVisionAccuracy(Metric):
    """Accuracy and parse rate in percent.

    ``references`` are the right answer, a letter or a text, and, for a letter, the text of its option.  Where samples
    carry ``meta`` of ``KEYS`` there is also an ``accuracy[…]`` for each value found.  Columns: ``accuracy`` and
    ``parse_rate``, each 0 or 100.

    Args:
        official: whether the official rules apply, or VLMEvalKit's.
    """

    running_score = True
    right_column = "accuracy"

    def __init__(self, name: str, *, official: bool) -> None:
        self.name = name
        self.official = official

    @property
    def signature(self) -> str:
        comparison = f"values:{DECIMALS}-decimals" if self.official else f"prefetch|letters:{VLMEVALKIT}"
        return f"{self.name}|{comparison}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdowns(KEYS, answers, per_sample)
        values |= more
        return Scores("accuracy", values, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        text = referenced(self.name, answered)
        is_right = is_right_officially if self.official else is_right_for_vlmevalkit
        return {
            "accuracy": 100.0 * (text is not None and is_right(answered.sample, text)),
            "parse_rate": 100.0 * (text is not None),
        }


METRICS = {
    metric.name: metric
    for metric in (
        MathVisionAccuracy("mathvision_accuracy", official=True),
        MathVisionAccuracy("mathvision_vlmevalkit", official=False),
    )
}
