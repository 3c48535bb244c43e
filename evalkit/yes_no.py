"""How an answer to a yes/no question is read: a text in, ``yes``, ``no`` or None out.

``read_yes_no(text)`` applies a named rule.  No rule draws an answer at random.  A rule that reads any answer
differently gets a new name, because the name is in the signature of every score.

- ``evalkit-yes-no-1``: the last stated answer ("the answer is yes", ``\\boxed{No}``), else the first word if it is one,
  else the only one of the two words in the answer.  Chinese answers are read at their start (是, 否, 不是, 对, 不对).
- ``vlmevalkit-yes-no``: ``YOrN_Extraction`` of open-compass/VLMEvalKit (commit e8e78f05): punctuation as in the VQA
  script, lower case; one of the words without the other.  Its judge, which is asked about other answers, is left out:
  they are unparsed, and wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from evalkit.errors import UserError

YES, NO = "yes", "no"
DEFAULT = "evalkit-yes-no-1"
VLMEVALKIT = "vlmevalkit-yes-no"

_STATED = re.compile(
    r"(?:\banswer\b(?:\s+(?:is|would\s+be|should\s+be))?\s*[:：]?|\\boxed\s*\{|答案(?:是|为)?\s*[:：]?)"
    r"[\s*_\"'({\[\\]*(?:text\s*\{)?\s*(yes|no)\b",
    re.I,
)
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?", re.I)
_CHINESE_NO = re.compile(r"^[\s*_\"'(]*(?:否|不|没|错|无)")
_CHINESE_YES = re.compile(r"^[\s*_\"'(]*(?:是|对|有|正确|能|会|可以)")


def _evalkit(text: str) -> str | None:
    stated = _STATED.findall(text)
    if stated:
        return str(stated[-1]).lower()
    words: list[str] = [word.lower() for word in _WORD.findall(text)]
    if words and words[0] in (YES, NO):
        return words[0]
    found: set[str] = {word for word in words if word in (YES, NO)}
    if len(found) == 1:
        return found.pop()
    if found:
        return None
    return NO if _CHINESE_NO.match(text) else YES if _CHINESE_YES.match(text) else None


# The punctuation rules of the VQA evaluation script, which VLMEvalKit copies with its typing error in the period's
# pattern: every period goes that no digit follows.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32  # ``re.UNICODE``, which the script passes as the count


def _vlmevalkit(text: str) -> str | None:
    text = text.lower()
    delete_all = _COMMA_IN_NUMBER.search(text) is not None
    rewritten = text
    for mark in _PUNCTUATION:
        delete = delete_all or f"{mark} " in text or f" {mark}" in text
        rewritten = rewritten.replace(mark, "" if delete else " ")
    words = _PERIOD.sub("", rewritten, count=_PERIODS).split()
    has_yes, has_no = YES in words, NO in words
    return None if has_yes == has_no else YES if has_yes else NO


RULES: Mapping[str, Callable[[str], str | None]] = {DEFAULT: _evalkit, VLMEVALKIT: _vlmevalkit}
"""The rules by name."""


def read_yes_no(text: str, rule: str = DEFAULT) -> str | None:
    """``yes`` or ``no``, as an answer says; None if it says neither, or both.

    Args:
        text: the answer, without reasoning and without the model's special tokens.
        rule: a name of ``RULES``.

    Raises:
        UserError: there is no such rule.
    """
    if rule not in RULES:
        raise UserError(f"there is no rule {rule!r} for yes and no: there are {', '.join(RULES)}.")
    return RULES[rule](text)
