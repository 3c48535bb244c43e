"""SimpleVQA: the share of answers that a judge calls correct.

Paper: Cheng et al., "SimpleVQA: Multimodal Factuality Evaluation for Multimodal Large Language Models" (arXiv
2502.13059).  Scorer: ``vlmeval/dataset/simplevqa.py`` of open-compass/VLMEvalKit (commit e8e78f0), by the authors; its
judge is gpt-4o.  The prompt is in Chinese; the judge returns a JSON object with 正确 (correct), 错误 (incorrect) or
未尝试 (not attempted).

Values: ``accuracy``, the reported share of correct answers; ``incorrect`` and ``not_attempted``;
``accuracy_given_attempted`` (correct among those attempted); ``f1``, the harmonic mean of the two accuracies; and
``accuracy[…]`` by language.

Deviations: the judge decodes greedily, at a temperature of 1 in VLMEvalKit.  VLMEvalKit takes a reply that it cannot
parse for 未尝试; here it is no verdict, and the answer is left out.  lmms-eval compares texts instead, which is not
comparable.  An answer that could not be parsed is not attempted, without a question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scale, Scores, Verdict

from ._judging import LONGEST, prompt_text, user
from ._scoring import breakdown, check_text_samples, computed, means

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "verdict"
CORRECT, INCORRECT, NOT_ATTEMPTED = LABELS = ("correct", "incorrect", "not_attempted")
VERDICTS = {"正确": CORRECT, "错误": INCORRECT, "未尝试": NOT_ATTEMPTED}
_FENCES = ("```json", "```python", "```")


def label(reply: str) -> str | None:
    """The verdict in a JSON object, fenced or not: its first value, or the ``conclusion`` in that; else None."""
    text = reply[:LONGEST]
    for fence in _FENCES:
        text = text.replace(fence, "")
    text = text.strip()
    try:
        found = json.loads(text if text.endswith("}") else f"{text}}}")
    except (ValueError, RecursionError):
        return None
    value = next(iter(found.values()), None) if isinstance(found, dict) else None
    if isinstance(value, dict):
        value = value.get("conclusion")
    return VERDICTS.get(value.replace("**", "").strip()) if isinstance(value, str) else None


PROMPT = JudgePrompt(
    "simplevqa-1",
    "VLMEvalKit e8e78f0: the authors' prompt in Chinese, with one answer; a reply that is no such JSON is no verdict",
    label,
    Scale(labels=LABELS),
    max_new_tokens=256,
)


def _shares(sums: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """From the sums of correct answers, attempted answers and answers."""
    import numpy as np

    correct, attempted, every = sums[:, 0], sums[:, 1], sums[:, 2]
    given = np.divide(100.0 * correct, attempted, out=np.zeros_like(correct), where=attempted > 0)
    return {"accuracy_given_attempted": given, "f1": 200.0 * correct / (attempted + every)}


class SimpleVqa(JudgedMetric):
    """Shares of correct, incorrect and not attempted answers in percent, and F-score; see the module."""

    name = "simplevqa"
    signature = "simplevqa|v1"
    leaves_out_unjudged = True
    prompts = (PROMPT,)

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """Rules with examples, then the question, the right answer and the model's."""
        sample, answer = answered.sample, answered.prediction.value
        if not isinstance(answer, str):
            raise UserError(f"{self.name}: the answer to sample {sample.id!r} is no text; this metric scores texts")
        before, rest = prompt_text("simplevqa").split("{question}")
        between, rest = rest.split("{answer}")
        middle, after = rest.split("{candidates}")
        asked = f"{before}{sample.text}{between}{sample.references[0]}{middle}\n[预测答案0]：{answer}{after}"
        return [JudgeQuestion(KEY, PROMPT, user(asked))]

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The shares over the judged answers; see ``JudgedMetric``."""
        per_sample: dict[str, dict[str, float]] = {}
        statistics: dict[str, Sequence[float]] = {}
        for judged in answers:
            found = judged.verdicts[KEY].value if judged.verdicts else NOT_ATTEMPTED
            per_sample[judged.answered.sample.id] = {
                "accuracy": 100.0 * (found == CORRECT),
                "incorrect": 100.0 * (found == INCORRECT),
                "not_attempted": 100.0 * (found == NOT_ATTEMPTED),
                "parse_rate": 100.0 * judged.answered.prediction.parsed,
            }
            statistics[judged.answered.sample.id] = (float(found == CORRECT), float(found != NOT_ATTEMPTED), 1.0)
        values = means(per_sample, ("accuracy", "incorrect", "not_attempted", "parse_rate"))
        declared: dict[str, Aggregation] = {}
        if answers:
            ratios = OfSums(statistics, _shares)
            declared = dict.fromkeys(("accuracy_given_attempted", "f1"), ratios)
            values |= computed(declared, per_sample, {})
        more, how = breakdown("language", [judged.answered for judged in answers], per_sample)
        return Scores("accuracy", {**values, **more}, per_sample, self.signature, {**declared, **how})


METRIC = SimpleVqa()
