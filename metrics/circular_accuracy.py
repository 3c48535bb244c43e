"""Circular accuracy: a question counts as right if it is answered right with its options in every order.

MMBench's score (Liu et al., "MMBench: Is Your Multi-modal Model an All-around Player?", ECCV 2024, arXiv 2307.06281):
each question is asked once per option, with the options rotated, which takes away what is gained by guessing and by a
preference for a letter.  Reference: ``mcq_circular_eval`` in ``vlmeval/dataset/utils/multiple_choice.py`` of
open-compass/VLMEvalKit (commit e8e78f05) without a judge.  CCBench and CRPE count alike.

- ``circular_accuracy``: the share of questions (groups of rows) with every row right.
- ``circular_accuracy_plain``: the share of right answers to the unrotated rows, "vanilla" in tables; the same values
  with another headline.

- ``circular_accuracy_crpe``: the same for whole answers, by VLMEvalKit's rule for CRPE (``right_by_crpe``).

Deviations:

- An answer without a letter is wrong, and the question with it.  VLMEvalKit asks a judge about such answers.
- A row without an answer is wrong.  Qwen-VL's ``mmbench_evaluation.py`` skips such rows.

A question is one cluster, so that intervals and tests count questions, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evalkit.aggregation import Aggregation, Mean, MeanWhere
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Scores

from ._scoring import breakdown, mean, means
from .choice_accuracy import letter_scores

GROUP, ROTATION = "group", "rotation"
"""The entries of ``meta`` that name a row's question, and how often its options are rotated: 0 for the original."""
CIRCULAR, PLAIN = "circular", "plain"


class CircularAccuracy(Metric):
    """Circular, plain and row-wise accuracy and parse rate in percent.

    ``references`` is the letter of the right option; ``meta["group"]`` names the question, and ``meta["rotation"]`` is
    0 for its unrotated row.  Values: ``circular``; ``plain``, over the unrotated rows; ``accuracy``, over all rows;
    ``parse_rate``; for each ``meta["category"]`` of unrotated rows a ``circular[category]``, and for each
    ``meta["l2_category"]`` an ``l2_circular[category]``.  Columns: ``circular`` (the question's, in each of its rows),
    ``accuracy`` and ``parse_rate``, each 0 or 100.

    Args:
        name: of the metric.
        headline: ``circular`` or ``plain``.
        scores_of: a sample's ``accuracy`` and ``parse_rate``, given the metric's name.
    """

    meta_keys = (GROUP, ROTATION, "reference")

    def __init__(
        self,
        name: str,
        headline: str = CIRCULAR,
        scores_of: Callable[[str, Answered], dict[str, float]] = letter_scores,
    ) -> None:
        self.name = name
        self.headline = headline
        self.right_column = CIRCULAR if headline == CIRCULAR else "accuracy"
        self._scores_of = scores_of

    @property
    def signature(self) -> str:
        return f"{self.name}|unread:wrong|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer.  Raises ``UserError`` for a sample without one reference, group and rotation."""
        per_sample = {answered.sample.id: self._scores_of(self.name, answered) for answered in answers}
        groups: dict[str, list[str]] = {}
        for answered in answers:
            groups.setdefault(self._group(answered), []).append(answered.sample.id)
        of_group = {
            group: min(per_sample[sample]["accuracy"] for sample in members) for group, members in groups.items()
        }
        for group, members in groups.items():
            for sample in members:
                per_sample[sample] = {CIRCULAR: of_group[group], **per_sample[sample]}
        unrotated = [a.sample.id for a in answers if a.sample.meta[ROTATION] == 0]
        values = {
            CIRCULAR: mean(list(of_group.values())),
            PLAIN: mean([per_sample[sample]["accuracy"] for sample in unrotated]),
            **means(per_sample, ("accuracy", "parse_rate")),
        }
        declared: dict[str, Aggregation] = {
            CIRCULAR: Mean(CIRCULAR, unit=GROUP), PLAIN: MeanWhere("accuracy", key=ROTATION, value="0"),
        }  # fmt: skip
        for key, name in (("l2_category", f"l2_{CIRCULAR}"), ("category", CIRCULAR)):
            more, of_more = breakdown(key, answers, per_sample, CIRCULAR, name=name, unit=GROUP)
            values, declared = values | more, declared | of_more
        notes = self._incomplete(answers, groups)
        return Scores(self.headline, values, per_sample, self.signature, declared, notes)

    def _group(self, answered: Answered) -> str:
        meta = answered.sample.meta
        if meta.get(GROUP) in (None, "") or not isinstance(meta.get(ROTATION), int):
            raise UserError(
                f"{self.name}: sample {answered.sample.id!r} has no {GROUP} and {ROTATION} in its meta data, which say "
                "what question it is and how often its options are rotated; score it with choice_accuracy"
            )
        return str(meta[GROUP])

    def _incomplete(self, answers: Sequence[Answered], groups: Mapping[str, Sequence[str]]) -> list[str]:
        """A sentence about questions that are not there in as many orders as they have options."""
        options = {answered.sample.id: len(answered.sample.lettered_options) for answered in answers}
        found = sum(len(members) < max(options[sample] for sample in members) for members in groups.values())
        if not found:
            return []
        sentence = (
            f"{found:,} of {len(groups):,} questions are not there in as many orders as they have options: the score "
            "may be higher than that of the complete split."
        )
        return [sentence]


def right_by_crpe(answer: str, reference: str) -> bool:
    """Whether an answer is right by ``is_correct`` in ``vlmeval/dataset/utils/crpe.py`` (commit e8e78f05).

    The first character counts if it is from A to D, or the only one; else the reference from its fifth character on
    must be in the answer.  A reference of a letter alone has none, and every such answer is right.
    """
    if len(answer) == 1 or answer[0] in "ABCD":
        return answer[0] == reference[0]
    return reference[4:].lower() in answer.lower()


def crpe_scores(metric: str, answered: Answered) -> dict[str, float]:
    """A sample's ``accuracy`` and ``parse_rate`` by ``right_by_crpe``; its reference is ``meta["reference"]``."""
    found = letter_scores(metric, answered)
    reference, answer = answered.sample.meta.get("reference"), answered.prediction.value
    if not isinstance(reference, str) or not reference:
        raise UserError(f"{metric}: sample {answered.sample.id!r} has no reference text; score it with another rule")
    return found | {"accuracy": 100.0 * (isinstance(answer, str) and right_by_crpe(answer, reference))}


_ALL = (
    CircularAccuracy("circular_accuracy"),
    CircularAccuracy("circular_accuracy_plain", PLAIN),
    CircularAccuracy("circular_accuracy_crpe", scores_of=crpe_scores),
)
METRICS = {metric.name: metric for metric in _ALL}
