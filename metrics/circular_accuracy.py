"""Circular accuracy: a question counts as right if it is answered right with its options in every order.

MMBench's score (Liu et al., "MMBench: Is Your Multi-modal Model an All-around Player?", ECCV 2024, arXiv 2307.06281):
each question is asked once per option, with the options rotated, which takes away what is gained by guessing and by a
preference for a letter.  Reference: ``mcq_circular_eval`` in ``vlmeval/dataset/utils/multiple_choice.py`` of
open-compass/VLMEvalKit (commit e8e78f05) without a judge.  CCBench and CRPE count alike.

- ``circular_accuracy``: the share of questions (groups of rows) with every row right.
- ``circular_accuracy_plain``: the share of right answers to the unrotated rows, "vanilla" in tables; the same values
  with another headline.

Deviations:

- An answer without a letter is wrong, and the question with it.  VLMEvalKit asks a judge about such answers.
- A row without an answer is wrong.  Qwen-VL's ``mmbench_evaluation.py`` skips such rows.

A question is one cluster, so that intervals and tests count questions, not rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        headline: ``circular``, or ``plain`` for the metric of that name.
    """

    def __init__(self, headline: str = CIRCULAR) -> None:
        self.name = "circular_accuracy" if headline == CIRCULAR else f"circular_accuracy_{headline}"
        self.headline = headline

    @property
    def signature(self) -> str:
        return f"{self.name}|unread:wrong|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer.  Raises ``UserError`` for a sample without one reference, group and rotation."""
        per_sample = {answered.sample.id: letter_scores(self.name, answered) for answered in answers}
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


METRICS = {metric.name: metric for metric in (CircularAccuracy(), CircularAccuracy(PLAIN))}
