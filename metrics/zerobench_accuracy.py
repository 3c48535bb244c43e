r"""Accuracy on ZeroBench: is the reference in the last curly braces of the answer?

Paper: Roberts et al., "ZeroBench: An Impossible Visual Benchmark for Contemporary Large Multimodal Models", 2025 (arXiv
2502.09696).  The rule is that of its evaluation code, as in VLMEvalKit (``ZEROBench``, commit e8e78f05): the answer in
lower case, what stands in its last ``{…}`` on one line, and whether that *contains* the reference.  So "1" is right in
"{11}", and ``\boxed{1}`` counts as well.  An answer without braces is wrong.

``zerobench_accuracy_lmms_eval``: lmms-eval's (commit 75571cf), whose prompt asks for the final answer alone: the whole
answer is the reference, case, quotes around it, repeated blanks and a final point aside, or both are the same number.

With one answer per question this is pass@1; the paper's 5/5 reliability needs five.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal

from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, means, referenced

_NUMBER = re.compile(r"-?(?:\d+\.\d+|\d+|\.\d+)", re.ASCII)
_BLANKS = re.compile(r"\s+")


def in_last_braces(answer: str, reference: str) -> bool | None:
    """Whether the last braces contain the reference; None without braces."""
    for line in reversed(answer.strip().lower().split("\n")):
        for piece in reversed(line.split("}")[:-1]):  # each ends where braces close
            if "{" in piece:
                return reference.strip().lower() in piece.partition("{")[2]
    return None


def is_reference(answer: str, reference: str) -> bool | None:
    """Whether the answer is the reference, as a text or as a number."""
    ours, theirs = _plain(answer), _plain(reference)
    numbers = _number(ours), _number(theirs)
    return numbers[0] == numbers[1] if None not in numbers else ours == theirs


def _plain(text: str) -> str:
    text = _BLANKS.sub(" ", text.strip().lower().strip("\"'`"))
    return text[:-1].rstrip() if text.endswith(".") else text


def _number(text: str) -> Decimal | None:
    text = text.strip().replace(",", "")
    return Decimal(text) if _NUMBER.fullmatch(text) else None


class ZeroBenchAccuracy(Metric):
    """Accuracy and parse rate in percent.

    ``references`` is the one right answer.  Columns: ``accuracy`` and ``parse_rate`` (an answer in braces), each 0 or
    100.  Where samples carry ``meta["category"]`` there is also an ``accuracy[category]`` for each category found.
    """

    running_score = True
    right_column = "accuracy"

    def __init__(self, name: str, rule: Callable[[str, str], bool | None]) -> None:
        self.name = name
        self._right = rule

    @property
    def signature(self) -> str:
        return f"{self.name}|unread:wrong|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without a reference."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdown("category", answers, per_sample)
        return Scores("accuracy", values | more, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        answer = referenced(self.name, answered)
        right = None if answer is None else self._right(answer, answered.sample.references[0])
        return {"accuracy": 100.0 * bool(right), "parse_rate": 100.0 * (right is not None)}


METRICS = {
    metric.name: metric
    for metric in (
        ZeroBenchAccuracy("zerobench_accuracy", in_last_braces),
        ZeroBenchAccuracy("zerobench_accuracy_lmms_eval", is_reference),
    )
}
