"""LLaVA-Bench (In-the-Wild): the score that a judge gives to the answers, relative to that of GPT-4's answers.

Paper: Liu et al., "Visual Instruction Tuning", NeurIPS 2023 (arXiv 2304.08485).  Official scorer:
``llava/eval/eval_gpt_review_bench.py`` and ``summarize_gpt_review.py`` of haotian-liu/LLaVA (commit c121f04).  The
judge reads a description of the image, the question and two answers, and gives each from 1 to 10; the score is the sum
of the model's over the sum of GPT-4's, in percent.  The official judge is gpt-4-0314.

Variants, by name:

- ``llavabench``: both orders are asked, and the headline is over both.  ``score[reference first]`` is the official
  score, ``score[answer first]`` that of the other order, and ``disagreement`` the share of questions where it depends
  on the order which answer is better.
- ``llavabench_official``: the official order only, GPT-4's answer first: one question an answer instead of two.

Deviations: the judge decodes greedily, at a temperature of 0.2 officially.  ``8, 9`` is read as ``8,9`` is; the script
reads only the latter.  A reply without two scores is left out; the script takes −1 for each, which lowers both sums.
An answer that could not be parsed gets 1, and GPT-4's 10, without a question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregation import Aggregation, Mean, OfSums
from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.types import (
    Answered,
    JudgedAnswer,
    JudgePrompt,
    JudgeQuestion,
    Kind,
    Message,
    Sample,
    Scale,
    Scores,
    TextPart,
    Verdict,
)

from ._judging import LONGEST, number, prompt_text
from ._scoring import check_text_samples, means

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFERENCE_FIRST, ANSWER_FIRST = "reference first", "answer first"
SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
SCALE = Scale(1, 10)


def two_scores(reply: str) -> tuple[float, float] | None:
    """The two numbers that are the first line of a reply, separated by white space or a comma."""
    words = reply[:LONGEST].split("\n", 1)[0].replace(",", " ").split()
    found = [number(word) for word in words] if len(words) == 2 else [None, None]
    first, second = found
    return None if first is None or second is None else (first, second)


PROMPT = JudgePrompt(
    "llavabench-1",
    "haotian-liu/LLaVA c121f04: the rule of the three categories, which is the same, and the system turn",
    two_scores,
    SCALE,
    scores=2,
    max_new_tokens=1024,
    leading=True,
)


class LlavaBench(JudgedMetric):
    """The relative score in percent, by category and order; the mean scores of both answers on the scale to 10.

    ``references`` is GPT-4's answer; ``meta`` has the ``category`` and the description of the image, ``caption``.

    Args:
        orders: the orders that are asked.
    """

    meta_keys = ("caption", "category")
    leaves_out_unjudged = True
    unjudged_range = None
    prompts = (PROMPT,)

    def __init__(self, name: str, *orders: str) -> None:
        self.name = name
        self.orders = orders

    @property
    def signature(self) -> str:
        return f"{self.name}|orders:{'both' if len(self.orders) == 2 else 'reference-first'}|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind, count=1)
        for sample in samples:
            self._caption(sample)
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """One question for each order of the two answers."""
        sample, answer = answered.sample, answered.prediction.value
        if not isinstance(answer, str):
            raise UserError(f"{self.name}: the answer to sample {sample.id!r} is no text; this metric scores texts")
        reference, rule = str(sample.references[0]), prompt_text("llavabench")
        return [
            JudgeQuestion(order, PROMPT, self._asked(sample, *pair, rule))
            for order, pair in ((REFERENCE_FIRST, (reference, answer)), (ANSWER_FIRST, (answer, reference)))
            if order in self.orders
        ]

    def _asked(self, sample: Sample, first: str, second: str, rule: str) -> tuple[Message, ...]:
        text = (
            f"[Context]\n{self._caption(sample)}\n\n[Question]\n{sample.text}\n\n"
            f"[Assistant 1]\n{first}\n\n[End of Assistant 1]\n\n[Assistant 2]\n{second}\n\n[End of Assistant 2]\n\n"
            f"[System]\n{rule}\n\n"
        )
        return (Message("system", (TextPart(SYSTEM),)), Message("user", (TextPart(text),)))

    def _caption(self, sample: Sample) -> str:
        caption = sample.meta.get("caption")
        if not isinstance(caption, str):
            raise UserError(
                f"{self.name}: sample {sample.id!r} has no caption in meta; this metric scores LLaVA-Bench only"
            )
        return caption

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The relative score over the judged answers; see ``JudgedMetric``."""
        pairs = {judged.answered.sample.id: self._pairs(judged) for judged in answers}
        columns = {sample: self._columns(found) for sample, found in pairs.items()}
        for judged in answers:
            columns[judged.answered.sample.id]["parse_rate"] = 100.0 * judged.answered.prediction.parsed
        names = self._names([judged.answered.sample for judged in answers])
        statistics = {
            judged.answered.sample.id: self._statistics(judged.answered.sample, pairs[judged.answered.sample.id], names)
            for judged in answers
        }

        def values(sums: NDArray[Any]) -> dict[str, NDArray[Any]]:
            return {name: 100.0 * sums[:, 2 * n] / sums[:, 2 * n + 1] for n, name in enumerate(names)}

        found = dict.fromkeys(names, math.nan)
        if statistics:
            totals = [math.fsum(column) for column in zip(*statistics.values(), strict=True)]
            found = {name: 100.0 * totals[2 * n] / totals[2 * n + 1] for n, name in enumerate(names)}
        declared: dict[str, Aggregation] = dict.fromkeys(names, OfSums(statistics, values, None))
        declared |= {name: Mean(name, 10.0) for name in ("model", "reference")}
        kept = ["model", "reference", "parse_rate", *(["disagreement"] if len(self.orders) == 2 else [])]
        notes = []
        if len(self.orders) == 2 and answers:
            flips = sum(row["disagreement"] > 0 for row in columns.values())
            notes.append(f"which answer is better depends on the order for {flips:,} of {len(answers):,} questions")
        return Scores("score", {**found, **means(columns, kept)}, columns, self.signature, declared, notes)

    def _pairs(self, judged: JudgedAnswer) -> dict[str, tuple[float, float]]:
        """The scores of the model's answer and the reference by order."""
        if not judged.verdicts:
            return dict.fromkeys(self.orders, (SCALE.low, SCALE.high))
        found = {}
        for order in self.orders:
            value = judged.verdicts[order].value
            assert isinstance(value, tuple)
            found[order] = (value[1], value[0]) if order == REFERENCE_FIRST else (value[0], value[1])
        return found

    def _columns(self, pairs: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        count = len(pairs)
        row = {
            "model": sum(model for model, _ in pairs.values()) / count,
            "reference": sum(reference for _, reference in pairs.values()) / count,
        }
        if count == 2:
            signs = {(model > reference) - (model < reference) for model, reference in pairs.values()}
            row["disagreement"] = 100.0 * (len(signs) > 1)
        return row

    def _names(self, samples: Sequence[Sample]) -> list[str]:
        """The names of the relative scores: over all questions, by category, and by order."""
        categories = sorted({str(sample.meta.get("category")) for sample in samples})
        orders = self.orders if len(self.orders) == 2 else ()
        return ["score", *(f"score[{name}]" for name in (*categories, *orders))]

    def _statistics(
        self, sample: Sample, pairs: Mapping[str, tuple[float, float]], names: Sequence[str]
    ) -> list[float]:
        """The scores of the model and of the reference that count in each value, in turn."""
        found: list[float] = []
        for name in names:
            inner = name.removeprefix("score").strip("[]")
            everything = not inner or inner == str(sample.meta.get("category"))
            counted = list(pairs.values()) if everything else [pair for order, pair in pairs.items() if order == inner]
            found += [sum(model for model, _ in counted), sum(reference for _, reference in counted)]
        return found


METRICS = {
    metric.name: metric
    for metric in (
        LlavaBench("llavabench", REFERENCE_FIRST, ANSWER_FIRST),
        LlavaBench("llavabench_official", REFERENCE_FIRST),
    )
}
