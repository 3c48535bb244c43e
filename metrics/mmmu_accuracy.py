"""Accuracy on MMMU, which has multiple-choice and open questions.

Paper: Yue et al., "MMMU: A Massive Multi-discipline Multimodal Understanding and Reasoning Benchmark for Expert AGI",
CVPR 2024 (arXiv 2311.16502).  Official scorer: ``mmmu/utils/eval_utils.py`` of MMMU-Benchmark/MMMU (commit bb0b95a).

The score is the share of right answers among all questions, which equals the mean over the 30 subjects with 30
questions each.  A multiple-choice question is right if its letter was read.  How open answers are scored:

- ``mmmu_accuracy``, the official rule.  Of each line, the shortest text after a word like "is", "so", "answer" counts
  (and after "=" in the last line), or the answer as a whole if there are none; and every number in these texts.  It is
  right if one of the texts *contains* the reference (in lower case; a reference of one character with a blank beside
  it), or if one of the numbers is the reference's to two decimals.
- ``mmmu_accuracy_lmms_eval``: lmms-eval since its commit 736454b5 (June 2025), which compares each *character* of the
  answer with the reference: no open question can be right.  The defect is reproduced for comparison.
- ``mmmu_accuracy_video``: Video-MMMU's (lmms-eval, commit 75571cf, ``videommmu/utils.py``): the official rule with
  more words, such as "total", "equals" and "has".
- ``mmmu_accuracy_RULE`` for VLMEvalKit's letter rules (``evalkit/letters/vlmevalkit.py``): an open question is scored
  as a multiple-choice question with the options ``A``, the reference, and ``B``, ``Other Answers``, which the model has
  not seen.

Quirks of the official rule that are reproduced: sentences are never split, because the answer is in lower case by then
and the split looks for a capital; ``nan`` and ``inf`` are numbers; an empty reference is in every text.

Deviation: an answer without a letter is wrong.  The official scorer draws an option (seed 42).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from evalkit.interfaces import Metric
from evalkit.letters import RULES, read_letter
from evalkit.types import Answered, Kind, Sample, Scores

from ._scoring import breakdowns, check_text_samples, means, referenced

OpenRule = Callable[[str, Sequence[str]], bool]
"""Whether an answer to an open question is right, given its references."""
OPEN = "vqa"
"""The kind of open questions."""

# The official patterns, except that a number is only tried from its first digit on: a later one ends the same, and long
# runs of digits would take quadratic time.
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d++(?:\.\d++)?[eE][+-]?\d+"),
    re.compile(r"-?(?:(?<!\d)\d++\.\d+|\.\d+|(?<!\d)\d++\b)(?![eE][+-]?\d+)(?![,\d])"),
)
_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_VIDEOMMMU_LEADS = (
    *_LEADS, "are ", "in total ", "total ", "identify ", "recognize ", "calculated as ", "counted as ", "measured as ",
    "observed as ", "concluded as ", "found to be ", "equals ", "determined to be ", "number of ", "value is ",
    "adds up to ", "have ", "has ",
)  # fmt: skip
_SIGNS = frozenset(":,.!?;'")


def normalized(text: str) -> tuple[str | float, ...]:
    """A text in lower case, or its number to two decimals; a single character once with a blank after and before it."""
    text = text.strip()
    try:
        return (round(float(text.replace(",", "")), 2),)
    except ValueError:
        text = text.lower()
        return (f" {text}", f"{text} ") if len(text) == 1 else (text,)


def candidates(answer: str, words: Sequence[str] = _LEADS) -> set[str | float]:
    """The texts and numbers in an answer to an open question, normalised; texts after one of ``words`` count."""
    answer = answer.strip().strip(".").lower()
    lines = answer.split("\n")
    texts = []
    for place, line in enumerate(lines):
        leads = (*words, "=") if place == len(lines) - 1 else words
        shortest = ""
        for lead in leads:
            if lead in line:
                tail = line.rpartition(lead)[2].strip()
                if not shortest or len(tail) < len(shortest):  # an empty one is shorter than those before it
                    shortest = tail
        if shortest and shortest not in _SIGNS:
            texts.append(shortest)
    texts = texts or [answer]
    numbers = [number for text in texts for pattern in _NUMBERS for number in pattern.findall(text)]
    return {found for text in (*texts, *numbers) for found in normalized(text)}


def official(answer: str, references: Sequence[str]) -> bool:
    """Whether an answer to an open question is right by MMMU's own rule."""
    return _contained(candidates(answer), references)


def videommmu(answer: str, references: Sequence[str]) -> bool:
    """The same by Video-MMMU's rule."""
    return _contained(candidates(answer, _VIDEOMMMU_LEADS), references)


def lmms_eval(answer: str, references: Sequence[str]) -> bool:
    """The same by lmms-eval's rule: a character would have to contain a reference."""
    return _contained(set(answer.lower()), references)


def vlmevalkit(rule: str) -> OpenRule:
    """The same by VLMEvalKit's letter rule ``rule``."""

    def right(answer: str, references: Sequence[str]) -> bool:
        # Several references are one text in its file, a list as Python writes it.
        reference = references[0] if len(references) == 1 else str(list(references))
        return read_letter(answer, (reference, "Other Answers"), rule).letter == "A"

    return right


def _contained(found: set[str | float], references: Sequence[str]) -> bool:
    wanted = [one for reference in references for one in normalized(reference)]
    return any(
        any(isinstance(one, str) and one in text for one in wanted) if isinstance(text, str) else text in wanted
        for text in found
    )


class MMMUAccuracy(Metric):
    """Accuracy and parse rate in percent.

    ``references`` are the letters of the right options, usually one; of an open question, the right texts.  There
    is an ``accuracy[…]`` for each subject (``meta["category"]``), discipline (``meta["domain"]``), type of question
    (``meta["question_type"]``) and track (``meta["track"]``) found.  Columns: ``accuracy`` and ``parse_rate``, each 0
    or 100.
    """

    running_score = True
    right_column = "accuracy"

    def __init__(self, name: str, rule: OpenRule) -> None:
        self.name = name
        self._right = rule

    @property
    def signature(self) -> str:
        return f"{self.name}|unread:wrong|v1"

    def check(self, samples: Sequence[Sample], kind: Kind) -> None:
        """Check the references of every sample; see ``Metric``.  Raises ``UserError``."""
        check_text_samples(self.name, samples, kind)

    def score(self, answers: Sequence[Answered]) -> Scores:
        """Score every answer; see ``Metric``.  Raises ``UserError`` for a sample without references."""
        per_sample = {answered.sample.id: self._one(answered) for answered in answers}
        values = means(per_sample, ("accuracy", "parse_rate"))
        more, declared = breakdowns(("question_type", "track", "domain", "category"), answers, per_sample)
        values |= more
        return Scores("accuracy", values, per_sample, self.signature, declared)

    def _one(self, answered: Answered) -> dict[str, float]:
        """A sample's columns, each 0 or 100."""
        sample, answer = answered.sample, referenced(self.name, answered)
        right = answer is not None and (
            self._right(answer, sample.references) if sample.kind == OPEN else answer in sample.references
        )
        return {"accuracy": 100.0 * right, "parse_rate": 100.0 * answered.prediction.parsed}


METRICS = {
    metric.name: metric
    for metric in (
        MMMUAccuracy("mmmu_accuracy", official),
        MMMUAccuracy("mmmu_accuracy_lmms_eval", lmms_eval),
        MMMUAccuracy("mmmu_accuracy_video", videommmu),
        *(
            MMMUAccuracy(f"mmmu_accuracy_{rule}", vlmevalkit(rule))
            for rule in RULES
            if rule.startswith("vlmevalkit") or rule == "qwen3-vl-evaluation"
        ),
    )
}
