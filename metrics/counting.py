"""Counting accuracy: the share of questions answered with the right number, by several rules.

Benchmarks: CountBenchQA (Beyer et al., "PaliGemma", 2024, arXiv 2407.07726; images of CountBench, Paiss et al.,
"Teaching CLIP to Count to Ten", ICCV 2023, arXiv 2302.12066) and PixMo-Count (Deitke et al., "Molmo and PixMo", 2024,
arXiv 2409.17146).  Neither has an official scorer that reads generated texts.

Variants, by name:

- ``counting_accuracy``: evalkit's own.  The answer must state one number: digits, or an English word up to twenty; of
  several different ones, the last that is stated ("the answer is", ``\\boxed{…}``), else none.
- ``counting_containment``: ``CountBenchQA`` of open-compass/VLMEvalKit (commit e8e78f0): the right number is contained
  in the answer, so that "10" is right where "1" is.
- ``counting_exact``: ``countbenchqa`` of EvolvingLMMs-Lab/lmms-eval (commit 75571cf): the answer is the number, blanks
  around it aside.
- ``counting_first``: ``pixmo_count`` of lmms-eval: the first integer of the answer is the right one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, means, referenced

WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_VALUES = {word: number for number, word in enumerate(WORDS)}
_NUMBER = rf"\d+(?:[.,]\d+)*|(?:{'|'.join(WORDS)})\b"
_NUMBERS = re.compile(rf"(?<![\w.])(?:{_NUMBER})(?!\w)", re.I | re.ASCII)
_STATED = re.compile(rf"(?:\banswer(?:\s+is)?\s*:?|\\boxed\s*\{{)[\s*_\"'({{\[]*({_NUMBER})(?!\w)", re.I | re.ASCII)
_DIGITS = re.compile(r"\d+")


def stated_number(text: str) -> int | None:
    """The number that an answer states; None if it states none, a fraction, or several without saying which."""
    stated = _STATED.findall(text)
    found = stated[-1:] or _NUMBERS.findall(text)
    values = {_value(number) for number in found}
    return values.pop() if len(values) == 1 else None


def _value(number: str) -> int | None:
    if number.lower() in _VALUES:
        return _VALUES[number.lower()]
    plain = re.sub(r",(?=\d{3}\b)", "", number)
    whole, _, rest = plain.partition(".")
    return int(whole) if len(whole) < 16 and whole.isdecimal() and not rest.strip("0") else None


def _evalkit(right: str, answer: str) -> bool:
    return stated_number(answer) == int(right)


def _contained(right: str, answer: str) -> bool:
    return right in answer


def _exact(right: str, answer: str) -> bool:
    return answer.strip() == right


def _first(right: str, answer: str) -> bool:
    found = _DIGITS.search(answer)
    return (answer.strip() if found is None else found[0]) == right


class CountingAccuracy(Metric):
    """Accuracy and parse rate in percent, with an ``accuracy[…]`` for every right number.

    ``references`` is the right number as digits.  Columns: ``accuracy`` and ``parse_rate``, each 0 or 100.

    Args:
        rule: whether an answer is right, given the right number's digits and the answer.
    """

    running_score = True
    right_column = "accuracy"

    def __init__(self, name: str, rule: Callable[[str, str], bool]) -> None:
        self.name = name
        self.rule = rule

    @property
    def signature(self) -> str:
        return f"{self.name}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the reference of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, "numbers", 1)
        for sample in samples:
            self._right(sample)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample's one reference is a number."""
        per_sample: Mapping[str, Mapping[str, float]] = {a.sample.id: self._one(a) for a in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdown("number", answers, per_sample)
        return Scores("accuracy", values | more, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        text = referenced(self.name, answered, "numbers")
        right = self._right(answered.sample)
        return {
            "accuracy": 100.0 * (text is not None and self.rule(right, text)),
            "parse_rate": 100.0 * (text is not None),
        }

    def _right(self, sample: Sample) -> str:
        found = sample.references[0]
        if not (isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 16):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has the reference {found!r}, which is not a whole number; check "
                "the annotation file"
            )
        return found


METRICS = {
    metric.name: metric
    for metric in (
        CountingAccuracy("counting_accuracy", _evalkit),
        CountingAccuracy("counting_containment", _contained),
        CountingAccuracy("counting_exact", _exact),
        CountingAccuracy("counting_first", _first),
    )
}
