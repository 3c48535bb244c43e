"""POPE's precision, recall and F1 of "yes", by category and together.

Paper: Li et al., "Evaluating Object Hallucination in Large Vision-Language Models", EMNLP 2023 (arXiv 2305.10355).
Official scorer: ``evaluate.py`` of RUCAIBox/POPE (commit 3df3ba1b), which scores one of the files (random, popular,
adversarial); LLaVA's ``eval_pope.py`` is the same.  The three metrics differ in their headline:

- ``pope``: ``f1``, the unweighted mean of the categories' F1, as in LLaVA's tables;
- ``pope_pooled``: ``f1_pooled``, the F1 of all questions together, VLMEvalKit's "Overall" (commit e8e78f05);
- ``pope_accuracy``: ``accuracy`` of all questions together, as lmms-eval's ``pope`` (commit 75571cf).  Its recall
  counts a missed "yes" only where the answer is "no", not where it is neither.

Deviations:

- Where no answer is "yes", precision is 0, as is F1 where precision and recall are 0; the script divides by zero.
- ``yes_rate`` is the share of answers "yes"; lmms-eval's is computed from the right answers, and always 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, OfSums, labels_of
from evalkit.interfaces import Metric
from evalkit.types import Answered, Scores
from evalkit.yes_no import NO, YES

from ._scoring import means
from .yes_no_accuracy import of_counts, predicted, reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("precision", "recall", "f1")
COUNTS = 5
"""Statistics per category: right answers "yes", answers "yes", references "yes", samples, right answers."""


class Pope(Metric):
    """F1, precision, recall and accuracy in percent, over all questions and by category.

    ``references`` is ``yes`` or ``no``; a sample counts once in each category that ``meta["category"]`` names.
    Columns: ``accuracy`` and ``parse_rate``, each 0 or 100.
    """

    meta_keys = ("category",)
    right_column = "accuracy"

    def __init__(self, name: str, headline: str, *, explicit_no: bool = False) -> None:
        self.name = name
        self._headline = headline
        self._explicit_no = explicit_no

    @property
    def signature(self) -> str:
        return f"{self.name}|headline:{self._headline}|unread:wrong|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample's one reference is yes or no."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        found = {label for answered in answers for label in self._labels(answered)}
        labels = sorted(found, key=lambda label: (ORDER.get(label, len(ORDER)), label))
        statistics = {answered.sample.id: self._statistics(answered, labels) for answered in answers}
        declared = OfSums(statistics, lambda sums: _values(sums, labels))
        names = self._names(labels)
        values = dict.fromkeys(names, math.nan) if not answers else self._computed(declared, names)
        values |= means(per_sample, ("parse_rate",))
        aggregation: dict[str, Aggregation] = dict.fromkeys(names, declared)
        return Scores(self._headline, values, per_sample, self.signature, aggregation)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        right = predicted(self.name, answered) == reference(self.name, answered)
        return {"accuracy": 100.0 * right, "parse_rate": 100.0 * answered.prediction.parsed}

    def _labels(self, answered: Answered) -> tuple[str, ...]:
        """The sample's categories; one without a name if it has none."""
        return labels_of(answered.sample.meta.get("category")) or ("",)

    def _statistics(self, answered: Answered, labels: Sequence[str]) -> list[float]:
        """A sample's statistics, ``COUNTS`` per category."""
        value, right = answered.prediction.value, answered.sample.references[0]
        wanted = right == YES and (value in (YES, NO) or not self._explicit_no)
        one = (value == YES and right == YES, value == YES, wanted, True, value == right)
        own = self._labels(answered)
        return [float(count and label in own) for label in labels for count in one]

    def _names(self, labels: Sequence[str]) -> list[str]:
        """The names of the values that come from sums, the headline first."""
        names = [self._headline, "f1", "f1_pooled", "accuracy", "precision", "recall", "yes_rate"]
        names += [f"{name}[{label}]" for label in labels if label for name in ("f1", "accuracy", *NAMES[:2])]
        return list(dict.fromkeys(names))

    def _computed(self, declared: OfSums, names: Sequence[str]) -> dict[str, float]:
        import numpy as np

        sums = np.array(list(declared.statistics.values())).sum(axis=0)
        found = declared.values(sums[None])
        return {name: float(found[name][0]) for name in names}


ORDER = {label: place for place, label in enumerate(("random", "popular", "adversarial"))}
"""The categories in the order of the paper's tables."""


def _values(sums: NDArray[Any], labels: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """All values in percent, (draws,) each, from (draws, ``COUNTS`` × labels) sums."""
    import numpy as np

    parts = sums.reshape(len(sums), len(labels), COUNTS)
    values: dict[str, NDArray[Any]] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for place, label in enumerate(labels):
            values |= {f"{name}[{label}]": value for name, value in _of(parts[:, place]).items()}
        pooled = _of(parts.sum(axis=1))
    each = np.stack([values[f"f1[{label}]"] for label in labels])
    return {**values, **pooled, "f1": each.mean(axis=0), "f1_pooled": pooled["f1"]}


def _of(counts: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The values of (draws, ``COUNTS``) sums."""
    return {**of_counts(counts[:, :4]), "accuracy": 100 * counts[:, 4] / counts[:, 3]}


METRICS = {
    "pope": Pope("pope", "f1"),
    "pope_pooled": Pope("pope_pooled", "f1_pooled"),
    "pope_accuracy": Pope("pope_accuracy", "accuracy", explicit_no=True),
}
