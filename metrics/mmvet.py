"""MM-Vet: the mean correctness, from 0 to 1, that a judge gives to the answers.

Paper: Yu et al., "MM-Vet: Evaluating Large Multimodal Models for Integrated Capabilities" (arXiv 2308.02490).  Official
scorer: ``mm-vet_evaluator.py`` of yuweihao/MM-Vet (commit 7d717c2); VLMEvalKit's: ``vlmeval/dataset/utils/mmvet.py``
(commit e8e78f0).  The judge completes a table of graded examples with one number; the paper's judge is gpt-4-0613,
VLMEvalKit's gpt-4-turbo.

Variants, by name:

- ``mmvet``: the official prompt; the first word of the reply is the score.
- ``mmvet_vlmevalkit``: VLMEvalKit's, with the same words in other lines; the whole reply is the score.

Deviations: the judge decodes greedily and is asked once.  The official scorer asks again at higher temperatures, in
five tries, and then takes 0: here such an answer is left out, and counted.  Replies may have 16 tokens instead of 3,
which not every tokenizer can write 0.5 in.  The paper's mean of five runs is not reproduced.  An answer that could not
be parsed gets 0 without a question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evalkit.aggregation import Aggregation
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scale, Scores, Verdict

from ._judging import first_word_number, only_number, prompt_text, user
from ._scoring import breakdown, check_text_samples, means

KEYS = ("capability", "combination")
"""The entries of ``meta`` by which the official scorer has breakdowns."""
KEY = "score"


class MMVet(JudgedMetric):
    """The mean score in percent, and ``score[…]`` by capability and combination of capabilities.

    ``references`` is the ground truth, with ``<AND>`` and ``<OR>`` between its elements.

    Args:
        prompt: the file of the prompt's text.
        read: reads the score in a reply.
    """

    leaves_out_unjudged = True

    def __init__(self, name: str, *, prompt: str, read: Callable[[str], float | None], source: str) -> None:
        self.name = name
        self._text = prompt
        self.prompts = (JudgePrompt(f"{prompt}-1", source, read, Scale(0, 1), max_new_tokens=16, leading=True),)

    @property
    def signature(self) -> str:
        return f"{self.name}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """The table of examples with a last row: question, ground truth, answer."""
        sample, answer = answered.sample, answered.prediction.value
        if not isinstance(answer, str):
            raise UserError(f"{self.name}: the answer to sample {sample.id!r} is no text; this metric scores texts")
        truth = str(sample.references[0]).replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        row = " | ".join((sample.text, truth, answer, ""))
        return [JudgeQuestion(KEY, self.prompts[0], user(prompt_text(self._text) + row))]

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The mean over the judged answers; see ``JudgedMetric``."""
        per_sample = {
            judged.answered.sample.id: {
                "score": 100.0 * (judged.verdicts[KEY].score if judged.verdicts else 0.0),
                "parse_rate": 100.0 * judged.answered.prediction.parsed,
            }
            for judged in answers
        }
        values = means(per_sample, ("score", "parse_rate"))
        declared: dict[str, Aggregation] = {}
        for key in KEYS:
            more, how = breakdown(key, [judged.answered for judged in answers], per_sample, "score")
            values |= {name: value for name, value in more.items() if name not in values}
            declared |= {name: value for name, value in how.items() if name not in declared}
        return Scores("score", values, per_sample, self.signature, declared)


METRICS = {
    metric.name: metric
    for metric in (
        MMVet(
            "mmvet",
            prompt="mmvet",
            read=first_word_number,
            source="yuweihao/MM-Vet 7d717c2: the official prompt; the first word of the reply is the score",
        ),
        MMVet(
            "mmvet_vlmevalkit",
            prompt="mmvet-vlmevalkit",
            read=only_number,
            source="VLMEvalKit e8e78f0: the same words in other lines; the reply is the score and nothing else",
        ),
    )
}
