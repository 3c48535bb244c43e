"""How an answer that states a span of time is read: a text in, a start and an end in seconds out.

``read_span(text, rule)`` applies a named rule.  A rule that reads any answer differently gets a new name, because the
name is in the signature of every score.

- ``evalkit-span-1``: the first two times that are joined as a span.  A time is a number of seconds (``12.5``,
  ``12.5 seconds``, ``<12.5 seconds>``, ``12秒``), minutes with seconds (``1 minute 5 seconds``), or a clock time
  (``01:05``, ``01:05.5``, ``0:01:05``); the notation says which, so that it fits every family.  Two times are joined by
  a dash, a comma, "to", "until" or "and", or by a few words with "end" among them (``starts at 3 and ends at 8``,
  ``{"start": 3, "end": 8}``).  Without such a pair, an answer with exactly two times states them.
- ``lmms-eval-span``: ``extract_time`` of ``tasks/charades_sta/utils.py`` in EvolvingLMMs-Lab/lmms-eval (commit
  75571cf).  In sentences that name a start, an end or a happening (in all sentences, if none does): the first
  ``a - b`` of clock times, else of numbers, else the first clock times, else the first number of each of two
  sentences.  Every "to" is a dash, also inside words, and "." ends no sentence.  Reversed ends are exchanged.

A span of ``evalkit-span-1`` that ends before it begins stays as it is, and meets nothing.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping

from evalkit.errors import UserError
from evalkit.reasoning import unwrap

Seconds = tuple[float, float]
"""(start, end) as an answer states them, in seconds."""

DEFAULT = "evalkit-span-1"
LMMS_EVAL = "lmms-eval-span"

# ------------------------------------------------------------------------------------------------------ evalkit's rule

LONGEST_JOIN = 60
"""Characters between the start and the end."""
_DIGITS = r"\d{1,9}(?:\.\d{1,9})?"
_TIME = re.compile(
    r"(?<![\d.:])(?:"
    r"(?P<clock>\d{1,4}:\d{2}(?::\d{2})?(?:\.\d{1,9})?)(?![\d:])"
    rf"|(?P<minutes>{_DIGITS})\s{{0,2}}(?:minutes?|mins?|m)\b(?:\s{{0,2}}(?:and|,)?\s{{0,2}}"
    rf"(?P<rest>{_DIGITS})\s{{0,2}}(?:seconds?|secs?|s)\b)?"
    rf"|(?P<seconds>{_DIGITS})(?![\d:%])(?:\s{{0,2}}(?:seconds?|secs?|s|秒)(?![a-z]))?"
    r")",
    re.I | re.ASCII,
)
_AROUND = "\"'<>()[]{}`*第 \t\n"
_JOINS = frozenset(("-", "–", "—", "~", "→", "->", ",", ";", "to", "until", "till", "through", "and", "到", "至"))
_END = re.compile(r"\b(?:ends?|ending|end_?time|stops?|finish(?:es)?)\b|结束", re.I)


def _evalkit(text: str) -> Seconds | None:
    plain = unwrap(text)
    found = list(_TIME.finditer(plain))
    for first, second in itertools.pairwise(found):
        if _joined(plain[first.end() : second.start()]):
            return _seconds(first), _seconds(second)
    return (_seconds(found[0]), _seconds(found[1])) if len(found) == 2 else None


def _joined(between: str) -> bool:
    """Whether a text joins two times to a span."""
    if len(between) > LONGEST_JOIN:
        return False
    return between.strip(_AROUND).lower() in _JOINS or _END.search(between.replace("_", " ")) is not None


def _seconds(match: re.Match[str]) -> float:
    if match["clock"]:
        return _clock(match["clock"])
    if match["minutes"]:
        return 60 * float(match["minutes"]) + float(match["rest"] or 0)
    return float(match["seconds"])


def _clock(text: str) -> float:
    """The seconds of ``h:mm:ss`` or ``mm:ss``."""
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


# --------------------------------------------------------------------------------------------------- lmms-eval's rule

_EXAMPLE = "a specific example is : 20.8 - 30.0 seconds"
_SENTENCES = re.compile(r"[!?\n]")
_WORDS = ("start", "end", "happen")  # "starts", "start time" and the like contain them
_WHOLE = r"\d++(?:\.\d++)?"
_CLOCK_TEXT = r"\b(\d{1,2}:\d{2}(?::\d{2})?)"
_CLOCK_RANGE = re.compile(rf"{_CLOCK_TEXT}\s*[–-]\s*(\d{{1,2}}:\d{{2}}(?::\d{{2}})?)\b")
_RANGE = re.compile(rf"(?<!\d)({_WHOLE})\s*+[–-]\s*+({_WHOLE})")
_CLOCK_ALONE = re.compile(rf"{_CLOCK_TEXT}\b")
_NUMBER = re.compile(rf"\b({_WHOLE})\b")
_RANGE_WITH_UNIT = re.compile(rf"(?<!\d)({_WHOLE})\s*+s?\s*+[–-]\s*+({_WHOLE})")


def _lmms_eval(text: str) -> Seconds | None:
    plain = text.lower().replace(_EXAMPLE, "").replace("to", "-")
    sentences = _SENTENCES.split(plain)
    named = [sentence for sentence in sentences if any(word in sentence for word in _WORDS)] or sentences
    found = _lmms_eval_times(named)
    if found is None:
        return None
    start, end = found
    return (start, end) if end > start else (end, start)


def _lmms_eval_times(sentences: list[str]) -> Seconds | None:
    for pattern, read in ((_CLOCK_RANGE, _clock), (_RANGE, float)):
        for sentence in sentences:
            match = pattern.search(sentence)
            if match is not None:
                return read(match[1]), read(match[2])
    clocks = [_clock(found) for sentence in sentences for found in _CLOCK_ALONE.findall(sentence)]
    if len(clocks) >= 2:
        return clocks[0], clocks[1]
    numbers = [float(match[1]) for sentence in sentences if (match := _NUMBER.search(sentence)) is not None]
    if len(numbers) >= 2:
        return numbers[0], numbers[1]
    for sentence in sentences:
        match = _RANGE_WITH_UNIT.search(sentence)
        if match is not None:
            return float(match[1]), float(match[2])
    return None


RULES: Mapping[str, Callable[[str], Seconds | None]] = {DEFAULT: _evalkit, LMMS_EVAL: _lmms_eval}
"""The rules by name."""


def span_rule(name: str) -> Callable[[str], Seconds | None]:
    """The rule called ``name``.  Raises ``UserError`` if there is none."""
    if name not in RULES:
        raise UserError(f"there is no rule {name!r} for spans of time: there are {', '.join(RULES)}.")
    return RULES[name]


def read_span(text: str, rule: str = DEFAULT) -> Seconds | None:
    """The start and the end in seconds that an answer states; None if it states none, or infinite ones.

    Args:
        text: the answer, without reasoning.
        rule: a name of ``RULES``.

    Raises:
        UserError: there is no such rule.
    """
    found = span_rule(rule)(text)
    return found if found is not None and all(map(math.isfinite, found)) else None
