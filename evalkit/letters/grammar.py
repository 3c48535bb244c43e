"""The declared grammar ``evalkit-2``.

A *reference* names an option: its letter (``B``, ``(b)``, ``option B``, ``B. blue``) or its exact text.  In this order:

1. ``letter``, ``text``: the complete answer is a reference.
2. The last *statement* wins: ``tag`` (``<answer>B</answer>``), ``box`` (``\\boxed{B}``), ``stated`` ("the answer is B",
   "B is correct", 答案是B), ``line`` (a line that is a letter).
3. ``marked``: the first or the last line begins with a marked letter, ``B. …``, ``(B) …``, ``B - …``.
4. ``bold``: a single option is bold.
5. ``only``: a single option is named as in the prompt, ``(B)``, or ``B. dog`` inside a sentence.
6. ``sentence``: a short answer contains the text of one option, denies nothing and names no letter.

A statement of two letters, or of a letter beyond the sample's options, makes the answer unparsed; no further step is
tried. Lower-case letters, and the words A and I, count only where they are set off from what follows.  A mention of an
option ("Option B shows …") is no statement.  Everything else is unparsed; no option is drawn at random.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from .leads import CALLED, DENIES, LEADS
from .lines import bold, lines, marked, only, sentence
from .options import Options, Reading
from .reference import BEYOND, TWO, Found, alone, find, named
from .text import shortened, unified, unmarked

EMPTY = "empty"
NOTHING = "no statement"
UNKNOWN = "tag without an option"

_TAG = re.compile(r"<answer>(.{0,2000}?)(?:</answer>|\Z)", re.S)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
LONGEST_BOX = 400
MOST = 10  # tags and boxes that are looked at, from the end
_FOLLOW_UP = re.compile(r"\n\s*(?:question|q|context|human|user)\s*:", re.I)


def read(text: str, options: Options) -> Reading:
    """The letter that an answer states; see the module."""
    whole = unified(shortened(text)).strip()
    follow_up = _FOLLOW_UP.search(whole)  # a base model that has answered goes on with the next question
    if follow_up is not None:
        reading = _read(whole[: follow_up.start()], options)
        if reading.letter is not None:
            return reading
    return _read(whole, options)


def _read(text: str, options: Options) -> Reading:
    plain = unmarked(text).strip()
    if not plain:
        return Reading(None, EMPTY)
    whole = alone(plain, options)
    if whole is not None:
        return _reading(whole, "text" if whole.by_text else "letter")
    statements = sorted(_statements(plain, options), key=lambda statement: statement[0])
    for _, source, found in reversed(statements):
        if found is not None:
            return _reading(found, source)
    if statements:
        return Reading(None, UNKNOWN)
    for weaker in (marked(plain, options), bold(text, options), only(plain, options), sentence(plain, options)):
        if weaker is not None:
            return weaker
    return Reading(None, NOTHING)


def _reading(found: Found, source: str) -> Reading:
    return Reading(found.letter, found.problem or source)


Statement = tuple[int, str, Found | None]
"""Where it ends, what it is, and what it refers to; None for a tag or a box that holds no option."""


def _statements(plain: str, options: Options) -> Iterator[Statement]:
    for match in deque(_TAG.finditer(plain), MOST):
        yield match.end(), "tag", _inside(match[1], options)
    for match in deque(_BOX.finditer(plain), MOST):
        content = _to_brace(plain[match.end() : match.end() + LONGEST_BOX])
        yield match.end() + len(content), "box", _inside(content, options)
    for lead in LEADS:
        for match in lead.pattern.finditer(plain):
            if not _denied(plain, match.start()):
                found = find(plain, match.end(), options, strict=lead.strict)
                if found is not None:
                    yield found.end, "stated", found
    for match in CALLED.finditer(plain):
        letter, before = match["letter"], match["before"].lower()
        article = letter in "ai" and not match["open"].strip() and before not in ("", "option", "choice")
        if not article and not _denied(plain, match.start("letter")):
            yield match.end(), "stated", named(letter, options, match.end())
    for place, found in lines(plain, options):
        yield place, "line", found


def _denied(plain: str, place: int) -> bool:
    return DENIES.search(plain[max(0, place - 60) : place]) is not None


def _to_brace(text: str) -> str:
    """``text`` up to the brace that closes a group which begins before it."""
    depth = 1
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[:place]
    return text


def _inside(text: str, options: Options) -> Found | None:
    """What a tag or a box refers to."""
    if "<answer>" in text or _BOX.search(text) or not text.strip():
        return None
    reading = _read(text, options)
    if reading.letter is None and reading.source not in (TWO, BEYOND):
        return None
    return Found(reading.letter, "" if reading.letter else reading.source, len(text))
