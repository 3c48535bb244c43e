r"""The official VQA scorer's normalisation of answers before they are compared with the annotators'.

Source: ``PythonEvaluationTools/vqaEvaluation/vqaEval.py`` of GT-Vision-Lab/VQA (commit a013f004), as it behaves under
Python 3: ``\d`` and ``lower()`` follow Unicode.  (Upstream is Python 2, where they follow ASCII and simple mappings;
the two differ on answers with Arabic digits, say, or a dotted capital I.)

Quirks reproduced on purpose, since published numbers contain them:

- *period-regex typo*: the pattern reads ``(?!<=\d)\.(?!\d)`` where ``(?<!\d)\.(?!\d)`` was meant.  The first group can
  never reject a period, so every period not followed by a digit is removed, also one after a digit (``66.`` -> ``66``).
- *count bug*: ``re.UNICODE`` is passed to ``sub`` as the count, so only the first 32 periods are removed.
- *look-around on the original text*: whether a mark is deleted or becomes a space is decided once per text, not per
  occurrence, and a comma between two digits anywhere deletes every mark of the text (``a/b 1,000`` -> ``ab 1000``).
- *missing marks*: apostrophe, colon, ``% $ # & *`` and typographic punctuation stay.
- *articles at any place*: ``vitamin a`` -> ``vitamin``, and an answer ``a`` or ``the`` becomes empty.
- *reversed contraction*: ``somebody'd`` loses its apostrophe, while all others get one.

Entries of the upstream contraction table that cannot change anything are left out: the keys with a capital (``Im``,
``Ive``, ``Id've``, ``I'dve``), looked up only after lower-casing, and ``let's`` and ``she's``, which map to themselves.

The scorers of TextVQA and VizWiz adopted these steps with differences of their own, and share this file.  It also
counts matching annotators: ``ENOUGH`` and ``leave_one_out``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""The marks that are deleted or turned into spaces; each is handled on its own."""

ARTICLES = frozenset(("a", "an", "the"))

_NUMBERS = "zero one two three four five six seven eight nine ten"
NUMBER_WORDS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS.split())}}

# The stems of each ending; "ca" + "n't" is "can't".  The gaps (no "we'd", no "let's") are upstream's.
_STEMS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "n't've": "could had might should would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who y'all you",
    "'ll": "how it somebody someone something they what who why y'all you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
}
_WHOLE = "ma'am o'clock 'ow's'at 'twas y'all"


def _contractions() -> dict[str, str]:
    """Misspelt contraction -> contraction: every spelling that lacks exactly one apostrophe."""
    words = [stem + ending for ending, stems in _STEMS.items() for stem in stems.split()] + _WHOLE.split()
    table = {word[:i] + word[i + 1 :]: word for word in words for i, char in enumerate(word) if char == "'"}
    table["somebody'd"] = "somebodyd"
    return table


CONTRACTIONS = _contractions()

_PERIOD = re.compile(r"\.(?!\d)")  # what upstream's mistyped pattern amounts to
_PERIODS_REMOVED = 32  # int(re.UNICODE), taken for a count
_COMMA_IN_NUMBER = re.compile(r"\d,\d")

ENOUGH = 3
"""The number of matching annotators for full score."""


def strip_answer(text: str) -> str:
    """``text`` with newlines and tabs as spaces, stripped: the first step for every answer."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def process_punctuation(text: str) -> str:
    """``text`` without punctuation: a mark with a space next to it anywhere is deleted, else replaced by a space."""
    delete_all = _COMMA_IN_NUMBER.search(text) is not None
    rewrite = {
        ord(mark): "" if delete_all or f"{mark} " in text or f" {mark}" in text else " "
        for mark in PUNCTUATION
        if mark in text
    }
    return _PERIOD.sub("", text.translate(rewrite), count=_PERIODS_REMOVED)


def process_digit_article(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """``text`` in lower case, number words as digits, articles dropped, contractions spelt out, single spaces."""
    words = (NUMBER_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(contractions.get(word, word) for word in words if word not in ARTICLES)


# VQAv2 val has 2.1 million annotators' answers, few of them distinct.
@lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """All steps in the official order: strip, punctuation, then case, number words, articles and contractions."""
    return process_digit_article(process_punctuation(strip_answer(text)))


def leave_one_out(matches: int, annotators: int) -> float:
    """Mean over annotators, each left out in turn, of ``min(1, matches among the others / 3)``; in [0, 1].

    ``annotators`` (at least one) gave one answer each, ``matches`` of them the scored one.
    """
    one_matching_left_out = min(1.0, (matches - 1) / ENOUGH)
    another_left_out = min(1.0, matches / ENOUGH)
    return (matches * one_matching_left_out + (annotators - matches) * another_left_out) / annotators
