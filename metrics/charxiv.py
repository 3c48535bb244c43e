"""CharXiv: the share of answers about charts that a judge finds right.

Paper: Wang et al., "CharXiv: Charting Gaps in Realistic Chart Understanding in Multimodal LLMs" (arXiv 2406.18521).
Official scorer: ``src/evaluate.py`` and ``src/get_stats.py`` of princeton-nlp/CharXiv (commit 7ebe88f), whose prompts
are in ``judge_prompts/charxiv-*.txt`` (Apache-2.0), control characters included; the paper's judge is
gpt-4o-2024-05-13.  The judge extracts the final answer and gives 0 or 1, in JSON.

- ``charxiv_descriptive``: the rubric of the question's template.
- ``charxiv_reasoning``: the rubric of the answer's type.

Deviations: the official scorer shows the judge five answers to the same template at once; here it sees one, in the same
prompt, since its verdict would depend on the others.  It asks for JSON by the server's option for it; here the prompt
alone does, and a block of JSON is read, too.  It asks up to ten times and then counts 0; here such an answer is left
out, and counted.  An answer that could not be parsed gets 0 without a question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scale, Scores, Verdict

from ._judging import LONGEST, prompt_text, user
from ._scoring import breakdowns, check_text_samples, means

KEY = "score"
KEYS = ("question", "question_type", "answer_type", "source", "subject", "year", "subplots")
"""The entries of ``meta`` by which the official scorer has breakdowns."""
RUBRICS: Mapping[str, Sequence[int]] = {
    "title": (1,), "ocr": (2, 3, 4, 5, 6, 7), "quant": (8, 9, 10, 12, 14, 15, 17, 19), "bool": (11,), "enum": (13,),
    "trend": (16,), "layout": (18,),
}  # fmt: skip
"""The rubric for each template of descriptive questions."""
RUBRIC_OF = {template: rubric for rubric, templates in RUBRICS.items() for template in templates}
TYPES = (1, 2, 3, 4)
"""The types of answers to reasoning questions: text in the chart, other text, number in the chart, other number."""

_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


def verdict_in(key: str) -> Callable[[str], float | None]:
    """A reader of the number ``key`` in a reply that is a JSON object, alone or in a block."""

    def read(reply: str) -> float | None:
        reply = reply[:LONGEST].strip()
        fenced = _FENCED.fullmatch(reply)
        try:
            value = json.loads(fenced[1] if fenced else reply)[key]
        except (LookupError, TypeError, ValueError, RecursionError):
            return None
        return float(value) if type(value) in (int, float) else None

    return read


class CharXiv(JudgedMetric):
    """The share of right answers in percent, and ``score[…]`` by the entries of ``meta`` that breakdowns have.

    ``references`` is the annotated answer.

    Args:
        prompt: how the judge is asked and its reply read.
        ask: the text of the question to the judge about a sample and an answer.
        kinds: the entry of ``meta`` that chooses the rubric, and its values.
    """

    leaves_out_unjudged = True
    right_column = "score"

    def __init__(
        self, name: str, prompt: JudgePrompt, ask: Callable[[Sample, str], str], kinds: tuple[str, Sequence[int]]
    ) -> None:
        self.name = name
        self.prompts = (prompt,)
        self.meta_keys = (kinds[0], "raw_question")
        self._ask = ask
        self._kinds = kinds

    @property
    def signature(self) -> str:
        return f"{self.name}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)
        key, values = self._kinds
        for sample in samples:
            if sample.meta.get(key) not in values:
                raise UserError(
                    f"{self.name}: sample {sample.id!r} has {sample.meta.get(key)!r} in meta[{key!r}]; expected one of "
                    f"{', '.join(map(str, values))}"
                )
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """The rubric, the annotated answer and the model's."""
        answer = answered.prediction.value
        if not isinstance(answer, str):
            raise UserError(
                f"{self.name}: the answer to sample {answered.sample.id!r} is no text; this metric scores texts"
            )
        return [JudgeQuestion(KEY, self.prompts[0], user(self._ask(answered.sample, answer)))]

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The share over the judged answers; see ``JudgedMetric``."""
        per_sample = {
            judged.answered.sample.id: {
                "score": 100.0 * (judged.verdicts[KEY].score if judged.verdicts else 0.0),
                "parse_rate": 100.0 * judged.answered.prediction.parsed,
            }
            for judged in answers
        }
        values = means(per_sample, ("score", "parse_rate"))
        more, declared = breakdowns(KEYS, [judged.answered for judged in answers], per_sample, "score")
        return Scores("score", values | more, per_sample, self.signature, declared)


def _about_description(sample: Sample, answer: str) -> str:
    template = sample.meta["template"]
    question = prompt_text("charxiv-questions").splitlines()[template - 1]
    instruction = (
        prompt_text("charxiv-descriptive")
        .replace("<|NUM_TRIPLETS|>", "1")
        .replace("<|OVERARCHING_QUESTION|>", question)
        .replace("<|JSON_KEYS|>", "['extract_answer_T1', 'score_T1']")
    )
    rubric = prompt_text(f"charxiv-descriptive-{RUBRIC_OF[template]}")
    return f"{instruction}{rubric}T1:\nResponse 1: {answer}\nGround Truth 1: {sample.references[0]}\n\n"


def _about_reasoning(sample: Sample, answer: str) -> str:
    rubric: str = prompt_text(f"charxiv-reasoning-{min(sample.meta['type'], 3)}")  # both types of numbers have one
    parts: Mapping[str, Any] = {
        "<|question|>": sample.meta["raw_question"],
        "<|ground_truth|>": sample.references[0],
        "<|response|>": answer,
    }
    for mark, text in parts.items():
        rubric = rubric.replace(mark, text)
    return prompt_text("charxiv-reasoning") + rubric


def _prompt(name: str, key: str, what: str) -> JudgePrompt:
    source = f"princeton-nlp/CharXiv 7ebe88f: {what}"
    return JudgePrompt(name, source, verdict_in(key), Scale(0, 1, whole=True), max_new_tokens=1024)


METRICS = {
    metric.name: metric
    for metric in (
        CharXiv(
            "charxiv_descriptive",
            _prompt("charxiv-descriptive-1", "score_T1", "the prompt for several answers, with one"),
            _about_description,
            ("template", tuple(sorted(RUBRIC_OF))),
        ),
        CharXiv(
            "charxiv_reasoning",
            _prompt("charxiv-reasoning-1", "score", "the prompt for one answer"),
            _about_reasoning,
            ("type", TYPES),
        ),
    )
}
