"""Accuracy of yes/no questions, with precision, recall and F1 of "yes".

The figures of POPE (Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023, arXiv
2305.10355), which its script computes with "yes" as the positive class.

Deviations:

- An answer that says neither is wrong, and counts as neither "yes" nor "no": it is no false positive, and a "yes" that
  was not answered is a false negative.  POPE's script counts it as "yes" (``pope.py`` has that rule by name).
  ``parse_rate`` is the share of parsed answers.
- Where no answer is "yes", precision is 0, as is F1 where precision and recall are 0; the script divides by zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Scores
from evalkit.yes_no import NO, YES

from ._scoring import breakdown, means

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNTS = ("precision", "recall", "f1", "yes_rate")


class YesNoAccuracy(Metric):
    """Accuracy, precision, recall, F1, share of "yes" and parse rate in percent.

    ``references`` is ``yes`` or ``no``.  Where samples carry ``meta["category"]`` there is also an
    ``accuracy[category]`` for each category found.  Columns: ``accuracy`` and ``parse_rate``, each 0 or 100.
    """

    name = "yes_no_accuracy"
    running_score = True
    right_column = "accuracy"
    signature = "yes_no_accuracy|unread:wrong|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample's one reference is yes or no."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdown("category", answers, per_sample)
        counted, of_counts = positives(answers)
        return Scores("accuracy", values | counted | more, per_sample, self.signature, declared | of_counts)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        right = reference(self.name, answered)
        return {
            "accuracy": 100.0 * (predicted(self.name, answered) == right),
            "parse_rate": 100.0 * answered.prediction.parsed,
        }


def reference(metric: str, answered: Answered) -> str:
    """The right answer, ``yes`` or ``no``.  Raises ``UserError`` if the sample has no such reference."""
    sample = answered.sample
    if len(sample.references) != 1 or sample.references[0] not in (YES, NO):
        raise UserError(
            f"{metric}: sample {sample.id!r} has the references {sample.references!r}, expected yes or no; choose a "
            "split whose annotations are public, or check the annotation file"
        )
    return str(sample.references[0])


def predicted(metric: str, answered: Answered) -> str | None:
    """The prediction, ``yes``, ``no`` or None.  Raises ``UserError`` if it was parsed as a box."""
    found = answered.prediction.value
    if found is not None and not isinstance(found, str):
        raise UserError(
            f"{metric}: the answer to sample {answered.sample.id!r} was parsed as a box, {found!r}; this metric scores "
            "yes and no: the task's kind does not match its metric"
        )
    return found


def positives(answers: Sequence[Answered]) -> tuple[dict[str, float], dict[str, Aggregation]]:
    """Precision, recall, F1 and share of "yes" in percent, and how they are computed from sums over samples."""
    statistics = {}
    for answered in answers:
        value, right = answered.prediction.value, answered.sample.references[0]
        statistics[answered.sample.id] = (
            float(value == YES and right == YES), float(value == YES), float(right == YES), 1.0,
        )  # fmt: skip
    declared: Aggregation = OfSums(statistics, of_counts)
    if not statistics:
        return {name: float("nan") for name in COUNTS}, dict.fromkeys(COUNTS, declared)
    import numpy as np

    sums = np.array(list(statistics.values())).sum(axis=0)
    found = {name: float(value[0]) for name, value in of_counts(sums[None]).items()}
    return found, dict.fromkeys(COUNTS, declared)


def of_counts(sums: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """Precision, recall, F1 and share of "yes" in percent, (draws,) each.

    Args:
        sums: (draws, 4): right answers "yes", answers "yes", references "yes", samples.
    """
    import numpy as np

    hits, given, wanted, all_samples = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(given > 0, hits / given, 0.0)
        recall = np.where(wanted > 0, hits / wanted, 0.0)
        f1 = np.where(hits > 0, 2 * hits / (given + wanted), 0.0)
        share = given / all_samples
    return {
        "precision": 100 * precision,
        "recall": 100 * recall,
        "f1": 100 * f1,
        "yes_rate": 100 * share,
    }


METRIC = YesNoAccuracy()
