"""MathVista accuracy by VLMEvalKit's complete rules: a judge extracts the answers that its rules leave open.

Paper: Lu et al., "MathVista: Evaluating Mathematical Reasoning of Foundation Models in Visual Contexts", ICLR 2024
(arXiv 2310.02255).  Scorer: ``vlmeval/dataset/utils/mathvista.py`` of open-compass/VLMEvalKit (commit e8e78f0), by
which most scores of open models are published.  Where a response states an option by its rule for letters, or is the
right number and nothing else, no judge is asked (``metrics/mathvista.py``).  Otherwise the judge extracts the answer
after five examples, and the extraction must state the right option, or be the right number.

Quirks reproduced: the prompt says ``Model respone`` and has no line break after the response; a list is never right.

Deviations: the judge decodes greedily and is asked once.  A reply that the limit of 128 tokens cut off is no
extraction, and its answer is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.aggregation import Aggregation
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.letters import VLMEVALKIT, read_letter
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scores, Verdict

from . import mathvista
from ._judging import prompt_text, some_text, user
from ._scoring import breakdown, means
from .mathvista import CHOICE, KEYS, is_right_for_vlmevalkit

KEY = "extraction"
PROMPT = JudgePrompt(
    "mathvista-vlmevalkit-1",
    "VLMEvalKit e8e78f0: its five examples, the query and the response; the reply is the extraction",
    some_text,
    scale=None,
    max_new_tokens=128,
)


class MathVistaJudged(JudgedMetric):
    """Accuracy and parse rate in percent, and ``judged``, the percentage of responses that a judge was asked about.

    Samples are as for ``mathvista_vlmevalkit``, with the same breakdowns.
    """

    name = "mathvista_judged"
    signature = f"mathvista_judged|letters:{VLMEVALKIT}|v1"
    leaves_out_unjudged = True
    prompts = (PROMPT,)

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        mathvista.METRICS["mathvista_vlmevalkit"].check(samples, kind)
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """What the answer is, if VLMEvalKit's rules leave it open."""
        sample, response = answered.sample, answered.prediction.value
        if not isinstance(response, str):
            raise UserError(f"{self.name}: the answer to sample {sample.id!r} is no text; this metric scores texts")
        if is_settled(sample, response):
            return []
        asked = f"{prompt_text('mathvista-vlmevalkit')}{sample.text}\nModel respone: {response}Extracted answer:"
        return [JudgeQuestion(KEY, PROMPT, user(asked))]

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The accuracy over the judged and the settled answers; see ``JudgedMetric``."""
        per_sample = {judged.answered.sample.id: self._one(judged) for judged in answers}
        values = means(per_sample, ("accuracy", "judged", "parse_rate"))
        declared: dict[str, Aggregation] = {}
        for key in KEYS:
            more, how = breakdown(key, [judged.answered for judged in answers], per_sample)
            values |= more
            declared |= how
        return Scores("accuracy", values, per_sample, self.signature, declared)

    def _one(self, judged: JudgedAnswer) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        sample, response = judged.answered.sample, judged.answered.prediction.value
        text = judged.verdicts[KEY].value if judged.verdicts else response
        right = isinstance(text, str) and is_right_for_vlmevalkit(sample, text)
        return {
            "accuracy": 100.0 * right,
            "judged": 100.0 * bool(judged.verdicts),
            "parse_rate": 100.0 * judged.answered.prediction.parsed,
        }


def is_settled(sample: Sample, response: str) -> bool:
    """Whether VLMEvalKit asks no judge: an option is stated, or the response is the right number."""
    if sample.meta["question_type"] == CHOICE:
        return read_letter(response, [str(option) for option in sample.options], VLMEVALKIT).letter is not None
    return is_right_for_vlmevalkit(sample, response)


METRIC = MathVistaJudged()
