"""MathVerse accuracy: a judge extracts the answer of each response, and then says whether it is the right one.

Paper: Zhang et al., "MathVerse: Does Your Multi-modal LLM Truly See the Diagrams in Visual Math Problems?", ECCV 2024
(arXiv 2403.14624).  Official scorer: ``evaluation/extract_answer_s1.py`` and ``score_answer_s2.py`` of
ZrrSkywalker/MathVerse (commit 937b090); VLMEvalKit's: ``vlmeval/dataset/utils/mathverse.py`` (commit e8e78f0).  This is
the score that the paper's tables call "w/o"; CoT-E, which scores the steps, is left out.

Variants, by name:

- ``mathverse``: the official prompts, with the question as the problem's version has it.
- ``mathverse_vlmevalkit``: VLMEvalKit's, with four of the five examples of the second prompt and the question in full;
  an extraction that equals the answer is right without the second question.

Values: ``accuracy`` over all problems, and by version, subject and subfield.

Deviations: the judge decodes greedily, and each question is asked once; the official script asks until it reads 0 or 1,
and VLMEvalKit takes 0 after five tries.  An answer without a verdict is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.aggregation import Aggregation
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scale, Scores, Verdict

from ._judging import LONGEST, prompt_text, some_text, user
from ._scoring import breakdown, check_text_samples, means

EXTRACTION, SCORE = "extraction", "score"
KEYS = ("problem_version", "subject", "subfield")


def extracted(reply: str) -> str | None:
    """The official reading of an extraction: without a repeated ``Extracted Answer: ``."""
    return some_text(reply[:LONGEST].replace("Extracted Answer: ", ""))


def judgement(reply: str) -> float | None:
    """0 or 1 and nothing else, after ``Judgement:`` if that is repeated."""
    return {"0": 0.0, "1": 1.0}.get(reply[:LONGEST].replace("Judgement:", "").strip())


def plain_judgement(reply: str) -> float | None:
    """0 or 1 and nothing else."""
    return {"0": 0.0, "1": 1.0}.get(reply[:LONGEST].strip())


class MathVerse(JudgedMetric):
    """Accuracy and parse rate in percent.

    ``references`` is the right answer; ``meta`` has ``question`` and ``question_for_eval``, the problem as its version
    has it and in full, and the entries of ``KEYS``.

    Args:
        official: whose prompts and rules, the official ones or VLMEvalKit's.
    """

    meta_keys = ("question", "question_for_eval")
    leaves_out_unjudged = True

    def __init__(self, name: str, *, official: bool) -> None:
        self.name = name
        self._official = official
        whose = "ZrrSkywalker/MathVerse 937b090" if official else "VLMEvalKit e8e78f0"
        variant = "" if official else "-vlmevalkit"
        self.prompts = (
            JudgePrompt(
                f"mathverse-extract{variant}-1",
                f"{whose}: six examples; the reply is the extraction",
                extracted if official else some_text,
                scale=None,
                max_new_tokens=128,
            ),
            JudgePrompt(
                f"mathverse-score{variant}-1",
                f"{whose}: examples, question, right answer and extraction; the reply is 0 or 1",
                judgement if official else plain_judgement,
                Scale(0, 1, whole=True),
                max_new_tokens=16,
            ),
        )

    @property
    def signature(self) -> str:
        return f"{self.name}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)
        for sample in samples:
            if not all(isinstance(sample.meta.get(key), str) for key in ("question", "question_for_eval")):
                raise UserError(
                    f"{self.name}: sample {sample.id!r} has no question and question_for_eval in meta; this metric "
                    "scores MathVerse only"
                )
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """What the answer is; then, whether it is the right one."""
        sample, response = answered.sample, answered.prediction.value
        if not isinstance(response, str):
            raise UserError(f"{self.name}: the answer to sample {sample.id!r} is no text; this metric scores texts")
        extract, score = self.prompts
        variant = "" if self._official else "-vlmevalkit"
        if EXTRACTION not in verdicts:
            asked = f"{prompt_text(f'mathverse-extract{variant}')}Model response: '{response}'\nExtracted Answer: "
            return [JudgeQuestion(EXTRACTION, extract, user(asked))]
        found = str(verdicts[EXTRACTION].value)
        if not self._official and found == str(sample.references[0]).strip():
            return []
        return [JudgeQuestion(SCORE, score, user(self._compared(sample, found, f"mathverse-score{variant}")))]

    def _compared(self, sample: Sample, found: str, name: str) -> str:
        right, meta = sample.references[0], sample.meta
        if self._official:
            return prompt_text(name).format(question=meta["question"], gt=right, extraction=found)
        return (
            f"{prompt_text(name)}    [Question]: {meta['question_for_eval']}\n    [Standard Answer]: {right}\n"
            f"    [Model_answer] : {found}\n    Judgement:"
        )

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The accuracy over the judged answers; see ``JudgedMetric``."""
        per_sample = {}
        for judged in answers:
            # VLMEvalKit's extraction that equals the answer has no second verdict.
            right = judged.verdicts[SCORE].score == 1 if SCORE in judged.verdicts else bool(judged.verdicts)
            per_sample[judged.answered.sample.id] = {
                "accuracy": 100.0 * right,
                "parse_rate": 100.0 * judged.answered.prediction.parsed,
            }
        values = means(per_sample, ("accuracy", "parse_rate"))
        declared: dict[str, Aggregation] = {}
        for key in KEYS:
            more, how = breakdown(key, [judged.answered for judged in answers], per_sample)
            values |= more
            declared |= how
        return Scores("accuracy", values, per_sample, self.signature, declared)


METRICS = {
    metric.name: metric
    for metric in (MathVerse("mathverse", official=True), MathVerse("mathverse_vlmevalkit", official=False))
}
