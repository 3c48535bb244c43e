"""Multiple-choice accuracy: the share of questions answered with the right option.

The score of AI2D (Kembhavi et al., "A Diagram Is Worth a Dozen Images", 2016, arXiv 1603.07396) and ScienceQA (Lu et
al., "Learn to Explain", 2022, arXiv 2209.09513), among others.  Their scorers compare options; harnesses differ in
how they extract an option from an answer.  Here the model family does that: the prediction is a letter or None.

Deviations:

- An answer without a letter is wrong.  Some scorers draw a random option instead (ScienceQA's and MMMU's own, for
  instance), which raises the score of a model that does not answer.  ``parse_rate`` is the share of parsed answers.
- Letters are compared as they are; the family converts them to upper case.

An open question among multiple-choice ones (a sample of the kind ``vqa``, as in RealWorldQA) is right if the answer is
the reference, in lower case and without a final point: lmms-eval's rule.

``choice_accuracy_l2`` has the same values and another headline, ``accuracy_l2``: the unweighted mean of the means of
the categories in ``meta["l2_category"]``, which is lmms-eval's score for MMStar.
``choice_accuracy_macro`` has the headline ``accuracy_macro``: the unweighted mean of the means of the categories in
``meta["category"]``, which is BLINK's own score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.aggregation import Aggregation, MeanOfGroups, labels_of
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Scores

from ._scoring import breakdown, mean, means


class ChoiceAccuracy(Metric):
    """Accuracy and parse rate in percent.

    ``references`` is the letter of the right option.  Where samples carry ``meta["category"]`` there is also an
    ``accuracy[category]`` for each category found; where all carry ``meta["l2_category"]``, an
    ``l2_accuracy[category]`` and the unweighted mean of these, ``accuracy_l2``.  Columns: ``accuracy`` and
    ``parse_rate``, each 0 or 100.

    Args:
        headline: ``accuracy``, or ``accuracy_l2`` or ``accuracy_macro`` for the metrics of these names.
    """

    running_score = True
    right_column = "accuracy"

    def __init__(self, headline: str = "accuracy") -> None:
        self.name = f"choice_{headline}"
        self.headline = headline
        self.meta_keys = {"accuracy_l2": ("l2_category",), "accuracy_macro": ("category",)}.get(headline, ())

    @property
    def signature(self) -> str:
        return f"{self.name}|unread:wrong|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample has exactly one reference."""
        per_sample = {answered.sample.id: letter_scores(self.name, answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdown("category", answers, per_sample)
        l2, of_l2 = by_l2(answers, per_sample, required=self.headline == "accuracy_l2")
        if self.headline == "accuracy_macro":
            values["accuracy_macro"], of_l2["accuracy_macro"] = self._macro(answers, more)
        return Scores(self.headline, values | l2 | more, per_sample, self.signature, declared | of_l2)

    def _macro(self, answers: Sequence[Answered], by_category: Mapping[str, float]) -> tuple[float, Aggregation]:
        """The mean over the categories, and how it is computed.  Raises ``UserError`` if a sample has not just one."""
        odd = next((a.sample.id for a in answers if len(labels_of(a.sample.meta.get("category"))) != 1), None)
        if odd is not None:
            raise UserError(
                f"{self.name}: sample {odd!r} has not one category, and the score is the mean over categories; score "
                "it with choice_accuracy, or complete the data"
            )
        return mean(list(by_category.values())), MeanOfGroups("accuracy", key="category")


def letter_scores(metric: str, answered: Answered) -> dict[str, float]:
    """A sample's ``accuracy`` and ``parse_rate``, each 0 or 100.

    Args:
        metric: its name, for messages.

    Raises:
        UserError: the sample has not exactly one reference, or was answered with a box.
    """
    sample, letter = answered.sample, answered.prediction.value
    if len(sample.references) != 1:
        raise UserError(
            f"{metric}: sample {sample.id!r} has {len(sample.references)} right options, expected one; "
            "choose a split whose annotations are public, or check the annotation file"
        )
    if letter is not None and not isinstance(letter, str):
        raise UserError(
            f"{metric}: the answer to sample {sample.id!r} was parsed as a box, {letter!r}; "
            "this metric scores letters: the task's kind does not match its metric"
        )
    right = letter == sample.references[0]
    if sample.kind == "vqa" and letter is not None:
        right = letter.lower().strip().rstrip(".") == str(sample.references[0]).lower()
    return {
        "accuracy": 100.0 * right,
        "parse_rate": 100.0 * answered.prediction.parsed,
    }


def by_l2(
    answers: Sequence[Answered], per_sample: Mapping[str, Mapping[str, float]], *, required: bool
) -> tuple[dict[str, float], dict[str, Aggregation]]:
    """The accuracy by L2 category and the mean of these, and how they are computed.

    None if a sample has no category.

    Raises:
        UserError: a sample has none, and ``required``.
    """
    without = next((a.sample.id for a in answers if not labels_of(a.sample.meta.get("l2_category"))), None)
    if without is not None:
        if required:
            raise UserError(
                f"choice_accuracy_l2: sample {without!r} has no l2_category, which the score averages; score it "
                "with choice_accuracy, or complete the data"
            )
        return {}, {}
    values, declared = breakdown("l2_category", answers, per_sample, name="l2_accuracy")
    if not values and not required:
        return {}, {}
    mean_of_means = mean(list(values.values()))
    return {"accuracy_l2": mean_of_means, **values}, {
        "accuracy_l2": MeanOfGroups("accuracy", key="l2_category"), **declared,
    }  # fmt: skip


METRICS = {metric.name: metric for metric in map(ChoiceAccuracy, ("accuracy", "accuracy_l2", "accuracy_macro"))}
