"""The base class of metrics that need a judge: a model that reads answers and gives verdicts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from evalkit.errors import UserError
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scores, Verdict

from .metric import Metric


class JudgedMetric(Metric):
    """Scores answers by the verdicts of a judge.

    evalkit asks the questions, in batches, through the backend that also generates answers; it records, resumes and
    checks the verdicts, and adds the judge, the prompts and their scales to the signature.  Only answers whose verdicts
    are all there reach ``score_judged``.

    Attributes:
        prompts: every prompt that ``questions`` uses.
        leaves_out_unjudged: whether the score is over the judged answers, and a note says how many are left out and
            between which values the score would be with them.  Otherwise an answer without a verdict means that
            there is no score.
        unjudged_range: the lowest and the highest value that an answer can have in the headline, for that note; None
            if the headline is no mean of values on a common scale.
    """

    prompts: Sequence[JudgePrompt]
    leaves_out_unjudged: bool = False
    unjudged_range: tuple[float, float] | None = (0.0, 100.0)

    @abstractmethod
    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """The questions about an answer that can be asked once ``verdicts`` are known.

        Called again with the verdicts so far, until it has no new question: a second question may depend on the
        verdict on the first.  Not called for answers without a prediction, nor after a question that has no verdict.
        """

    @abstractmethod
    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """Score answers with their verdicts; one without a prediction has none, and counts as wrong."""

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Refuses, except for no answers: they are scored by ``score_judged``.  Raises ``UserError``."""
        if not answers:
            empty = self.score_judged(())
            return replace(empty, signature=self.signed(empty.signature, "JUDGE"))
        raise UserError(f"the metric {self.name} needs a judge; name one with --judge MODEL")

    def signed(self, signature: str, judge: str) -> str:
        """The signature of a score with the judge, and the prompts with their scales, after the metric's name."""
        name, *rest = signature.split("|")
        scales = ["text" if prompt.scale is None else prompt.scale.describe() for prompt in self.prompts]
        prompts = [f"judge-prompt:{p.name}:{scale}" for p, scale in zip(self.prompts, scales, strict=True)]
        return "|".join([name, f"judge:{judge}", *dict.fromkeys(prompts), *rest])

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Make the questions about made-up answers to the first samples, and score made-up verdicts."""
        from evalkit.judged_contract import try_out_judged

        try_out_judged(self, samples, kind)
