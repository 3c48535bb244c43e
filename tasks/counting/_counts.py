"""What counting benchmarks share: their rules, and numbers in files."""

from __future__ import annotations

from typing import Any

from evalkit.tasks._files import integer_of
from evalkit.types import ScoringRule

RULES = {
    "evalkit-count-1": ScoringRule(metric="counting_accuracy", about="the one number that the answer states"),
    "vlmevalkit-e8e78f0": ScoringRule(
        metric="counting_containment",
        about="VLMEvalKit's: the right number is contained in the answer, as 1 in 10",
        verbatim=True,
    ),
    "lmms-eval-exact-75571cf": ScoringRule(
        metric="counting_exact", about="lmms-eval's for CountBenchQA: the answer is the number", verbatim=True
    ),
    "lmms-eval-first-75571cf": ScoringRule(
        metric="counting_first", about="lmms-eval's for PixMo-Count: the answer's first integer", verbatim=True
    ),
}


def number_of(value: Any, what: str) -> str:
    """The digits of the whole number in ``value``, a number or a text.  Raises ``ValueError`` for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(integer_of(value.strip() if isinstance(value, str) else value, what))
