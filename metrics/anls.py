"""ANLS: average normalised Levenshtein similarity, the score of DocVQA and InfographicVQA.

Papers: Biten et al., "Scene Text Visual Question Answering", 2019 (arXiv 1905.13648, where it is defined); Mathew et
al., "DocVQA", 2021 (arXiv 2007.00398); Mathew et al., "InfographicVQA", 2022 (arXiv 2104.12756).  Official scorer: the
script of the Robust Reading Competition (RRC, docvqa.org), followed as Qwen-VL redistributes it
(``eval_mm/infographicsvqa_eval.py``, commit aa00ed04).

A question scores ``1 - distance / length`` for the nearest of its answers, or 0 if that is below 0.5; the distance is
Levenshtein's, over code points.  Variants (``VARIANTS``; other than ``rrc`` only in Python, ``ANLS("mmf")``) differ in
the compared texts and in the length:

- ``rrc``: the official script, and the headline.  Texts are compared in lower case with collapsed white space, but *the
  length is that of the raw texts in upper case*.  So padding a wrong answer with spaces raises its score, and a
  character whose upper case is longer counts as more than one.  Exactly 0.5 is kept.
- ``mmf``: ``STVQAANLSEvaluator`` of facebookresearch/mmf (commit b0ffc7fb).  Lower case, ends stripped; 0.5 is kept.
- ``mp-docvqa``: rubenpt91/MP-DocVQA-Framework ``metrics.py`` (commit 7939f521).  As ``mmf``, but the predictions ``""``
  and ``none`` always score 0.
- ``due``: due-benchmark/evaluator ``anls_scorer.py`` (commit 75c0f550).  Texts are compared unchanged; 0.5 is dropped.
- ``pix2struct``: google-research/pix2struct ``metrics.py`` (commit 945f27e9).  Lower case; 0.5 is dropped
  (its commit 5b086ef5 keeps it).

Deviations:

- Two empty texts score 1.  (``mmf`` and ``pix2struct`` divide by zero there.)
- A question without answers is a data error, which names the question.
- If the answer cannot be parsed, the question scores 0, even if an annotated answer is empty.
- In percent; the script prints a fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import check_text_samples, means, referenced, variant_of

Variant = Literal["rrc", "mmf", "mp-docvqa", "due", "pix2struct"]


THRESHOLD = 0.5
"""Similarities below it (or not above it, by variant) count as 0."""


class VariantSpec(NamedTuple):
    """How a variant compares two texts.

    ``normalize`` returns the text for the edit distance, ``length_text`` the text for the length, both of the raw one;
    ``keeps_half``: whether a similarity of exactly 0.5 counts; ``zero_scores``: normalized predictions that score 0.
    """

    normalize: Callable[[str], str]
    length_text: Callable[[str], str]
    keeps_half: bool
    zero_scores: frozenset[str] = frozenset()


def _collapsed(text: str) -> str:
    return " ".join(text.lower().split())


def _stripped(text: str) -> str:
    return text.lower().strip()


VARIANTS: Mapping[Variant, VariantSpec] = {
    "rrc": VariantSpec(_collapsed, str.upper, keeps_half=True),
    "mmf": VariantSpec(_stripped, _stripped, keeps_half=True),
    "mp-docvqa": VariantSpec(_stripped, _stripped, keeps_half=True, zero_scores=frozenset(("", "none"))),
    "due": VariantSpec(str, str, keeps_half=False),
    "pix2struct": VariantSpec(str.lower, str.lower, keeps_half=False),
}


def edit_distance(a: str, b: str, limit: int) -> int:
    """The Levenshtein distance of ``a`` and ``b`` over code points, or ``limit + 1`` if it exceeds ``limit``.

    It stops as soon as ``limit`` is certainly exceeded, so that long wrong answers are cheap.
    """
    if len(a) > len(b):
        a, b = b, a
    if len(b) - len(a) > limit:
        return limit + 1
    row = list(range(len(a) + 1))  # distances of b[:0] to every a[:column]
    for line, char in enumerate(b, start=1):
        above, row = row, [line]
        for column, other in enumerate(a):
            row.append(above[column] if char == other else 1 + min(above[column], above[column + 1], row[column]))
        if min(row) > limit:  # no later line can get below
            return limit + 1
    return min(row[-1], limit + 1)


def similarity(prediction: str, reference: str, variant: Variant = "rrc") -> float:
    """The similarity of ``prediction`` and ``reference``: 0 below the threshold, else in [0.5, 1]."""
    spec = VARIANTS[variant]
    a, b = spec.normalize(prediction), spec.normalize(reference)
    if a in spec.zero_scores:
        return 0.0
    length = max(len(spec.length_text(prediction)), len(spec.length_text(reference)))
    if length == 0:
        return 1.0
    # The threshold: the largest distance at which the similarity is at least (or above) THRESHOLD = 1 / 2, in
    # integers, since the quotient would be rounded.
    limit = length // 2 if spec.keeps_half else (length - 1) // 2
    distance = edit_distance(a, b, limit)
    return 1 - distance / length if distance <= limit else 0.0


class ANLS(Metric):
    """ANLS in percent.  ``references`` are the correct answers; the nearest one gives the score."""

    name = "anls"
    running_score = True

    def __init__(self, variant: Variant = "rrc") -> None:
        if variant not in get_args(Variant):
            raise ValueError(f"unknown ANLS variant {variant!r}; expected {', '.join(get_args(Variant))}")
        self.variant: Variant = variant

    def configured(self, options: Mapping[str, Any]) -> ANLS:
        """The metric in another variant (option ``variant``); see ``Metric``.  Raises ``ValueError``."""
        found = type(self)(variant_of(self.name, options, get_args(Variant)))  # type: ignore[arg-type]
        found.name = self.name if found.variant == self.variant else f"{self.name}_{found.variant}"
        return found

    @property
    def signature(self) -> str:
        """Variant, threshold, and this file's version, raised whenever a score could change."""
        return f"{self.name}|variant:{self.variant}|threshold:{THRESHOLD}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: {"anls": self._one(answered)} for answered in answers}
        values = means(per_sample, ["anls"])
        return Scores(headline="anls", values=values, per_sample=per_sample, signature=self.signature)

    def _one(self, answered: Answered) -> float:
        """A sample's score in percent."""
        sample, prediction = answered.sample, referenced(self.name, answered)
        if prediction is None:
            return 0.0
        return 100 * max(similarity(prediction, reference, self.variant) for reference in sample.references)


METRIC = ANLS("rrc")
