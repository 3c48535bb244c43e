"""Short answers as OCRBench v2 scores them.

Source: ``OCRBench_v2/eval_scripts/vqa_metric.py`` and ``eval.py`` of Yuliang-Liu/MultimodalOCR (commit 794c36d6).
All scores are in [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from rapidfuzz.distance import Levenshtein

SHORT, SHORT_CHINESE = 5, 4
"""From this number of words, or of parts between commas in Chinese, an answer is compared by its edit distance."""
SIMILAR = 0.5
SEPARATORS = ("", ".", ". ", ",", ", ", "、", ";", "; ", " ", "和")
"""What may be between the letters of an answer to several questions."""

_NUMBER = re.compile(r"\d+")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")


def question_answer(predicted: str, answers: Iterable[str], *, case: bool = False) -> float:
    """1 if a short answer is contained; else the largest similarity to a long one that is at least 0.5."""

    def normalised(text: str) -> str:
        return (text if case else text.lower()).strip().replace("\n", " ")

    return _best(normalised(predicted), map(normalised, answers), lambda answer: len(answer.split()) < SHORT)


def chinese_answer(predicted: str, answers: Iterable[str]) -> float:
    """The same for Chinese, without blanks; an answer is short with fewer than four parts between commas."""

    def normalised(text: str) -> str:
        return text.lower().strip().replace("\n", " ").replace(" ", "")

    return _best(normalised(predicted), map(normalised, answers), lambda answer: len(answer.split(",")) < SHORT_CHINESE)


def _best(predicted: str, answers: Iterable[str], is_short: Callable[[str], bool]) -> float:
    best = 0.0
    for answer in answers:
        if is_short(answer):
            best = 1.0 if answer in predicted else best
        else:
            similarity = 1.0 - Levenshtein.distance(predicted, answer) / max(len(predicted), len(answer))
            best = max(best, similarity) if similarity >= SIMILAR else best
    return best


def chosen(predicted: str, answer: str) -> float:
    """Whether the letters of the prediction, put together, are those of the right options."""
    return float("".join(filter(str.isalpha, predicted)) == answer)


def count(predicted: str, answers: Iterable[str], *, exact: bool) -> float:
    """Of an exact count: 1 if it is contained; else 1 − relative error of the first number if that is above 0.5."""
    if exact:
        return float(any(answer.lower().strip().replace("\n", " ") in predicted for answer in answers))
    match = _NUMBER.search(predicted)
    number = float(match[0]) if match else 0.0
    near = [1.0 - abs(number - int(answer)) / int(answer) for answer in answers if number and int(answer)]
    return max((similarity for similarity in near if similarity > SIMILAR), default=0.0)


def formula(predicted: str, answers: Iterable[str], *, chinese: bool = False) -> float:
    r"""Whether a formula is contained without blanks; in Chinese also without ``\text{…}`` around texts."""

    def normalised(text: str) -> str:
        text = _TEXT.sub(r"\1", text) if chinese else text
        return text.strip().replace("\n", " ").replace(" ", "")

    found = normalised(predicted)
    return float(any(normalised(answer) in found for answer in answers))


def handwritten(predicted: str, answer: str) -> float:
    """Whether the letters of an answer are contained, with any of the usual separators."""
    return float(any(separator.join(answer) in predicted for separator in SEPARATORS))
