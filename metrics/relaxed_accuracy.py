"""Relaxed accuracy: numbers within 5 % are correct; other answers must match exactly.

Papers: Methani et al., "PlotQA", 2020 (arXiv 1909.00997, where it is defined); Masry et al., "ChartQA", 2022
(arXiv 2203.10244, end of section 5.1).  Published ChartQA numbers are computed with ``relaxed_correctness`` of
google-research/pix2struct (``pix2struct/metrics.py``, commit 945f27e9).

If both texts are numbers and the annotated one is not 0, correct means ``|prediction - target| / |target| <= 0.05``;
otherwise the texts must be equal, ignoring case.  Any of several annotated answers counts.

Quirks of that function, reproduced on purpose:

- *percent*: a text that ends in ``%`` is a number divided by 100, so ``5%`` is ``0.05`` and not ``5``.
- *a number is what Python's* ``float`` *parses*: outer spaces, ``1_000``, ``1e3``, digits of other scripts, ``inf`` and
  ``nan`` (which never match); but not ``1,000`` or ``$5``.
- *zero is compared as text*: ``0.0`` does not match ``0``.
- *nothing is stripped* when texts are compared.  Removing a trailing full stop or commas from predictions, as some
  harnesses do, moves the human split by more than a point.
- *rounding decides at the edge*: 105 matches 100, 1.05 does not match 1.

Variants:

- ``pix2struct``: that function; the headline ``accuracy``.
- ``qwen-vl``: Qwen-VL's ``eval_mm/evaluate_vqa.py`` (commit aa00ed04), and InternVL after it.  It passes the arguments
  in the other order, so that the 5 % refer to the *prediction*, which must not be 0 either; and it
  strips the prediction.  Reported next to the headline as ``accuracy_qwen-vl``.

Deviation: if the answer cannot be parsed, the question is wrong, even if the annotated answer is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evalkit.aggregation import MeanOfGroups
from evalkit.interfaces import Metric
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdown, check_text_samples, mean, referenced

Variant = Literal["pix2struct", "qwen-vl"]

TOLERANCE = 0.05
"""The largest relative error of a correct number."""

COLUMNS: dict[str, Variant] = {"accuracy": "pix2struct", "accuracy_qwen-vl": "qwen-vl"}


def correct(prediction: str, reference: str, variant: Variant) -> bool:
    """Whether ``prediction`` is close enough to ``reference``."""
    if variant == "qwen-vl":
        return _relaxed(target=prediction.strip(), prediction=reference)
    return _relaxed(target=reference, prediction=prediction)


def _relaxed(*, target: str, prediction: str) -> bool:
    goal, number = _number(target), _number(prediction)
    if number is None or not goal:
        return prediction.lower() == target.lower()
    return abs(number - goal) / abs(goal) <= TOLERANCE


def _number(text: str) -> float | None:
    digits = text.rstrip("%")
    try:
        number = float(digits)
    except ValueError:
        return None
    return number if digits == text else number / 100


class RelaxedAccuracy(Metric):
    """Relaxed accuracy in percent, in both variants.

    ``references`` are the annotated answers.  Where samples carry ``meta["subset"]`` (ChartQA: ``human`` and
    ``augmented``) there is an ``accuracy[subset]`` for each subset found.  If all samples do, ``accuracy`` and
    ``accuracy_qwen-vl`` are the unweighted means over the subsets, as ChartQA is reported; else they are means over
    all samples.
    """

    name = "relaxed_accuracy"
    running_score = True
    right_column = "accuracy"
    signature = f"relaxed_accuracy|variant:pix2struct|tolerance:{TOLERANCE}|mean:subsets|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        subsets: dict[str | None, list[dict[str, float]]] = {}
        for answered in answers:
            subsets.setdefault(answered.sample.meta.get("subset"), []).append(per_sample[answered.sample.id])
        groups = [list(per_sample.values())] if None in subsets else list(subsets.values())
        values = {key: mean([mean([row[key] for row in group]) for group in groups]) for key in COLUMNS}
        more, declared = breakdown("subset", answers, per_sample)
        if None not in subsets:
            declared |= dict.fromkeys(COLUMNS, MeanOfGroups(key="subset"))
        return Scores("accuracy", values | more, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        sample, prediction = answered.sample, referenced(self.name, answered)
        if prediction is None:
            return dict.fromkeys(COLUMNS, 0.0)
        return {
            column: 100.0 * any(correct(prediction, reference, variant) for reference in sample.references)
            for column, variant in COLUMNS.items()
        }


METRIC = RelaxedAccuracy()
