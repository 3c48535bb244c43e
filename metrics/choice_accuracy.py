"""Multiple-choice accuracy: the share of questions answered with the right option.

The score of AI2D (Kembhavi et al., "A Diagram Is Worth a Dozen Images", 2016, arXiv 1603.07396) and ScienceQA (Lu et
al., "Learn to Explain", 2022, arXiv 2209.09513), among others.  Their scorers compare options; harnesses differ in
how they extract an option from an answer.  Here the model family does that: the prediction is a letter or None.

Deviations:

- An answer without a letter is wrong.  Some scorers draw a random option instead (ScienceQA's and MMMU's own, for
  instance), which raises the score of a model that does not answer.  ``parse_rate`` is the share of parsed answers.
- Letters are compared as they are; the family converts them to upper case.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Scores

from ._scoring import breakdown, means


class ChoiceAccuracy(Metric):
    """Accuracy and parse rate in percent.

    ``references`` is the letter of the right option.  Where samples carry ``meta["category"]`` there is also an
    ``accuracy[category]`` for each category found.  Columns: ``accuracy`` and ``parse_rate``, each 0 or 100.
    """

    name = "choice_accuracy"
    running_score = True
    signature = "choice_accuracy|unread:wrong|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample has exactly one reference."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdown("category", answers, per_sample)
        return Scores("accuracy", values | more, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        sample, letter = answered.sample, answered.prediction.value
        if len(sample.references) != 1:
            raise UserError(
                f"{self.name}: sample {sample.id!r} has {len(sample.references)} right options, expected one; "
                "choose a split whose annotations are public, or check the annotation file"
            )
        if letter is not None and not isinstance(letter, str):
            raise UserError(
                f"{self.name}: the answer to sample {sample.id!r} was parsed as a box, {letter!r}; "
                "this metric scores letters: the task's kind does not match its metric"
            )
        return {
            "accuracy": 100.0 * (letter == sample.references[0]),
            "parse_rate": 100.0 * answered.prediction.parsed,
        }


METRIC = ChoiceAccuracy()
