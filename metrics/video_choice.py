"""Multiple-choice accuracy on videos: the share of questions answered with the right option, with every breakdown.

The score of Video-MME, LongVideoBench, LVBench, EgoSchema, PerceptionTest, TempCompass and NExT-QA is the share of all
questions; that of MVBench (Li et al., 2023, arXiv 2311.17005) and MLVU (Zhou et al., 2024, arXiv 2406.04264: M-Avg) is
the unweighted mean over their tasks.  An answer is the letter of an option, or "yes" or "no".

- ``video_choice``: the headline is ``accuracy``, the share of all questions.
- ``video_choice_macro``: the headline is ``accuracy_macro``, the unweighted mean of the accuracies of the tasks
  (``meta["task"]``).

Deviation: an answer without a letter is wrong, and counts.  Other harnesses draw an option at random (EgoSchema,
LongVideoBench, NExT-QA in lmms-eval), or leave such an answer out of the denominator (MVBench in lmms-eval, Video-MME
in VLMEvalKit), which raises the score of a model that does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.aggregation import MeanOfGroups, labels_of
from evalkit.errors import UserError
from evalkit.interfaces import Metric
from evalkit.types import Answered, Scores

from ._scoring import breakdown, breakdowns, mean, means
from .choice_accuracy import letter_scores

TASK = "task"
KEYS = (
    "duration", "domain", "sub_category", "task_type", "ability", "area", "reasoning", "tag", "dimension", "type",
    "track",
)  # fmt: skip
"""The entries of ``meta`` by which there are breakdowns; a category of one entry can have the name of another's."""


class VideoChoice(Metric):
    """Accuracy and parse rate in percent.

    ``references`` is the letter of the right option, or ``yes`` or ``no``.  There is an ``accuracy[…]`` for each task
    (``meta["task"]``), and a ``KEY[…]`` for each value of the other entries of ``KEYS`` that samples have.  Columns:
    ``accuracy`` and ``parse_rate``, each 0 or 100.

    Args:
        macro: whether the mean over tasks is the headline.
    """

    running_score = True
    right_column = "accuracy"

    def __init__(self, macro: bool = False) -> None:
        self.macro = macro
        self.name = "video_choice_macro" if macro else "video_choice"
        self.meta_keys = (TASK,) if macro else ()

    @property
    def signature(self) -> str:
        return f"{self.name}|unread:wrong|v1"

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` unless a sample has exactly one reference."""
        per_sample = {answered.sample.id: letter_scores(self.name, answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        by_task, declared = breakdowns((TASK,), answers, per_sample)
        values |= by_task
        if self.macro:
            odd = next((a.sample.id for a in answers if len(labels_of(a.sample.meta.get(TASK))) != 1), None)
            if odd is not None:
                raise UserError(
                    f"{self.name}: sample {odd!r} has no task, and the score is the mean over tasks; score it with "
                    "video_choice, or complete the data"
                )
            values["accuracy_macro"] = mean(list(by_task.values()))
            declared["accuracy_macro"] = MeanOfGroups("accuracy", key=TASK)
        for key in KEYS:
            more, how = breakdown(key, answers, per_sample, name=key)
            values |= more
            declared |= how
        return Scores("accuracy_macro" if self.macro else "accuracy", values, per_sample, self.signature, declared)


METRICS = {metric.name: metric for metric in (VideoChoice(), VideoChoice(macro=True))}
