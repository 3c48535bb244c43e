"""What a judged metric must keep to: its questions and scores, tried out before a model is loaded.

``evalkit.metric_contract`` has what every metric must keep to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from evalkit.aggregation import Aggregation
from evalkit.errors import UserError
from evalkit.metric_contract import TRIED, ScoringMetric, made_up, score_answers
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Prediction, Sample, Scores, Verdict

MOST_ROUNDS = 8
"""The most times that a judged metric can have new questions about an answer."""


class JudgingMetric(ScoringMetric, Protocol):
    """What is used of ``evalkit.interfaces.JudgedMetric``, which depends on this module."""

    @property
    def prompts(self) -> Sequence[JudgePrompt]: ...

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]: ...

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores: ...


@dataclass(frozen=True)
class _WithVerdicts:
    """A judged metric with the verdicts, as a metric of answers."""

    metric: JudgingMetric
    judged: Sequence[JudgedAnswer]

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def aggregation(self) -> Mapping[str, Aggregation]:
        return self.metric.aggregation

    @property
    def right_column(self) -> str:
        return self.metric.right_column

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        self.metric.check(samples, kind)

    def score(self, answers: Sequence[Answered]) -> Scores:
        return self.metric.score_judged(self.judged)


def score_verdicts(metric: JudgingMetric, judged: Sequence[JudgedAnswer]) -> Scores:
    """``score_answers`` for a judged metric.  Raises ``UserError`` as it does."""
    return score_answers(_WithVerdicts(metric, judged), [one.answered for one in judged])


def new_questions(metric: JudgingMetric, answered: Answered, known: Mapping[str, Verdict]) -> list[JudgeQuestion]:
    """The metric's questions that have no verdict yet.

    Raises:
        UserError: two have one key, a key cannot be one, or a prompt is not among those that the metric declares.
    """
    found: dict[str, JudgeQuestion] = {}
    for question in metric.questions(answered, known):
        if "#" in question.key or question.key in found or question.prompt not in metric.prompts:
            raise UserError(
                f"the metric {metric.name}: its question {question.key!r} about sample {answered.sample.id!r} has a "
                "key that is taken or contains '#', or a prompt that is not among its prompts; correct the metric."
            )
        found[question.key] = question
    return [question for key, question in found.items() if key not in known]


def try_out_judged(metric: JudgingMetric, samples: Sequence[Sample], kind: Kind) -> None:
    """Ask about made-up answers to the first samples, and score made-up verdicts on them.

    Raises:
        UserError: the metric cannot make questions or score verdicts, or breaks the contract.
    """
    few = samples[:TRIED]
    for shift in range(3):
        judged = []
        for place, sample in enumerate(few):
            answered = Answered(sample, Prediction(made_up(sample, sample.kind or kind)[(place + shift) % 3]))
            verdicts: dict[str, Verdict] = {}
            for _ in range(MOST_ROUNDS if answered.prediction.parsed else 0):
                new = new_questions(metric, answered, verdicts)
                verdicts |= {one.key: _made_up_verdict(one.prompt, place + shift) for one in new}
            judged.append(JudgedAnswer(answered, verdicts))
        score_verdicts(metric, judged)


def _made_up_verdict(prompt: JudgePrompt, place: int) -> Verdict:
    scale = prompt.scale
    if scale is None:
        return Verdict("1")
    if scale.labels:
        return Verdict(scale.labels[place % len(scale.labels)])
    value = (scale.low, scale.high)[place % 2]
    return Verdict((value,) * prompt.scores if prompt.scores > 1 else value)
