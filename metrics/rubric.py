"""Rubric: the score that a judge gives to an answer by a rubric of the user's own.

There is no paper and no official scorer: it is for tasks without code (``judge`` in a TOML file).  Without options, the
judge says whether an answer means the same as one of the references.

Options (``configured``):

- ``rubric``: the text of the judge's prompt, with ``{question}``, ``{references}``, ``{answer}`` and ``{options}``.
- ``scale``: the lowest and the highest score, whole numbers: the judge gives one of them; or
- ``labels``: the judge's words, each with the part of the full score that it means, from 0 to 1.
- ``image``: whether the judge sees the images of the question.
- ``max_new_tokens``: the limit of a reply.

The score is a percentage of the way from the lowest to the highest score.  A line that asks for the number or the word
and nothing else is put below the rubric, and a reply that is something else is no verdict: the answer is left out, and
counted.  An answer that could not be parsed gets 0 without a question.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from evalkit.errors import UserError
from evalkit.interfaces import JudgedMetric
from evalkit.types import Answered, JudgedAnswer, JudgePrompt, JudgeQuestion, Kind, Sample, Scale, Scores, Verdict

from ._judging import LONGEST, only_number, user
from ._scoring import check_text_samples, means

KEY = "score"
OPTIONS = ("rubric", "scale", "labels", "image", "max_new_tokens")
FIELDS = ("question", "references", "answer", "options")
SAME = (
    "Question: {question}\nRight answers, any of which counts:\n{references}\nAnswer to judge: {answer}\n\n"
    "Does the answer to judge mean the same as one of the right answers?"
)
LIMIT = 32
"""New tokens of a reply."""
LARGEST = 1000
"""Limit of a scale."""


class Rubric(JudgedMetric):
    """The mean score in percent.  ``references`` are texts, which the rubric may show to the judge.

    Args:
        rubric: the text of the prompt, with ``FIELDS`` in braces.
        labels: the judge's words with what each is worth, from 0 to 1; empty for numbers.
        scale: the lowest and the highest number.
        image: whether the judge sees the images of the question.
    """

    leaves_out_unjudged = True

    def __init__(
        self,
        name: str = "rubric",
        rubric: str = SAME,
        labels: Mapping[str, float] = {"yes": 1.0, "no": 0.0},
        scale: tuple[int, int] = (0, 1),
        image: bool = False,
        max_new_tokens: int = LIMIT,
    ) -> None:
        self.name = name
        self._rubric, self._labels, self._scale, self._image = rubric, dict(labels), scale, image
        asked = f"one of these words, and nothing else: {', '.join(labels)}" if labels else _numbers(*scale)
        self._text = f"{rubric}\n\nReply with {asked}."
        digest = hashlib.sha256(json.dumps([self._text, self._labels, image]).encode(errors="surrogatepass"))
        found = Scale(labels=tuple(labels)) if labels else Scale(*scale, whole=True)
        source = "the user's rubric" if rubric != SAME else "evalkit's own: whether two answers mean the same"
        self.prompts = (
            JudgePrompt(f"rubric-{digest.hexdigest()[:8]}", source, self._read, found, max_new_tokens=max_new_tokens),
        )

    @property
    def signature(self) -> str:
        return f"{self.name}|v1"

    def configured(self, options: Mapping[str, Any]) -> Rubric:
        """The metric with the options of the module's documentation.  Raises ``ValueError``."""
        for key in options:
            if key not in OPTIONS:
                raise ValueError(f"{key} is no option; there are {', '.join(OPTIONS)}")
        if not options:
            return self
        rubric, image = options.get("rubric", SAME), options.get("image", False)
        tokens = options.get("max_new_tokens", LIMIT)
        problem = _problem(rubric)
        if problem:
            raise ValueError(problem)
        if not isinstance(image, bool):
            raise ValueError(f"image is {image!r}; expected true or false")
        if type(tokens) is not int or not 0 < tokens <= 32_768:
            raise ValueError(f"max_new_tokens is {tokens!r}; expected a whole number from 1 to 32,768")
        if "labels" in options and "scale" in options:
            raise ValueError("labels stands beside scale; give one of the two")
        if "rubric" in options and "labels" not in options and "scale" not in options:
            raise ValueError(
                "rubric stands without its verdicts; add scale = [1, 10], or labels = { correct = 1, incorrect = 0 }"
            )
        scale = _scale(options["scale"]) if "scale" in options else (0, 1)
        labels = {} if "scale" in options else _labels(options.get("labels", {"yes": 1.0, "no": 0.0}))
        digest = hashlib.sha256(json.dumps([rubric, labels, scale, image, tokens], sort_keys=True).encode())
        return Rubric(f"rubric-{digest.hexdigest()[:8]}", rubric, labels, scale, image, tokens)

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)
        super().check(samples, kind)

    def questions(self, answered: Answered, verdicts: Mapping[str, Verdict]) -> Sequence[JudgeQuestion]:
        """The rubric, with what it shows of the sample and the answer."""
        sample, answer = answered.sample, answered.prediction.value
        if not isinstance(answer, str):
            raise UserError(f"{self.name}: the answer to sample {sample.id!r} is no text; this metric scores texts")
        options = "\n".join(f"{letter}. {text}" for letter, text in zip(_LETTERS, sample.option_texts, strict=False))
        text = self._text.format_map(
            {
                "question": sample.text,
                "references": "\n".join(map(str, sample.references)),
                "answer": answer,
                "options": options,
            }
        )
        return [JudgeQuestion(KEY, self.prompts[0], user(text, *(sample.all_images if self._image else ())))]

    def score_judged(self, answers: Sequence[JudgedAnswer]) -> Scores:
        """The mean over the judged answers; see ``JudgedMetric``."""
        per_sample = {
            judged.answered.sample.id: {
                "score": 100.0 * (self._part(judged.verdicts[KEY]) if judged.verdicts else 0.0),
                "parse_rate": 100.0 * judged.answered.prediction.parsed,
            }
            for judged in answers
        }
        return Scores("score", means(per_sample, ("score", "parse_rate")), per_sample, self.signature)

    def _part(self, verdict: Verdict) -> float:
        """What a verdict is worth, from 0 to 1."""
        if self._labels:
            return self._labels[str(verdict.value)]
        low, high = self._scale
        return (verdict.score - low) / (high - low)

    def _read(self, reply: str) -> float | str | None:
        """The number or the label that a reply is; None if it is something else."""
        if not self._labels:
            return only_number(reply)
        word = reply[:LONGEST].strip().removesuffix(".").lower()
        return next((label for label in self._labels if label.lower() == word), None)


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _numbers(low: int, high: int) -> str:
    return f"one whole number from {low} to {high}, and nothing else"


def _problem(rubric: Any) -> str:
    """What is wrong with a rubric; empty if nothing is."""
    if not isinstance(rubric, str) or not rubric.strip():
        return "rubric is not a text"
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    try:
        fields = [(name, spec, change) for _, name, spec, change in Formatter().parse(rubric) if name is not None]
    except ValueError as error:
        return f"rubric has braces that cannot be read ({error}); braces that are not placeholders are doubled"
    for name, spec, change in fields:
        if name not in FIELDS or spec or change:
            return f"rubric has {{{name[:40]}}}, which is no placeholder; there are {known}"
    if "answer" not in {name for name, _, _ in fields}:
        return "rubric does not show the answer to the judge; put {answer} where it stands"
    return ""


def _scale(value: Any) -> tuple[int, int]:
    whole = isinstance(value, list | tuple) and len(value) == 2 and all(type(one) is int for one in value)
    if not whole or not -LARGEST <= value[0] < value[1] <= LARGEST:
        raise ValueError(f"scale is {str(value)[:60]}; expected two whole numbers, the lower first, such as [1, 10]")
    return int(value[0]), int(value[1])


def _labels(value: Any) -> dict[str, float]:
    expected = "expected words and what each is worth, such as { correct = 1, partly = 0.5, incorrect = 0 }"
    if not isinstance(value, Mapping) or not 2 <= len(value) <= 50:
        raise ValueError(f"labels is {str(value)[:60]}; {expected}")
    for word, worth in value.items():
        odd = any(mark in word for mark in ",|:\n") or word != word.strip() or not word
        if odd or type(worth) not in (int, float) or not 0 <= worth <= 1:
            raise ValueError(f"labels has {word[:40]!r} = {str(worth)[:40]}; {expected}")
    if len({word.lower() for word in value}) < len(value):
        raise ValueError(f"labels has a word twice; {expected}")
    return {word: float(worth) for word, worth in value.items()}


METRIC = Rubric()
