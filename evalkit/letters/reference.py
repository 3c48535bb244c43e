"""A reference to an option: its letter, as ``B``, ``(b)``, ``option B`` or ``B. blue``, or its text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .options import LETTERS, Options
from .text import normalized

CJK = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Characters that do not continue a word of Latin letters, for a character class."""
WORD_ENDS = rf"(?![^\W{CJK}_])"
WORD_STARTS = rf"(?<![^\W{CJK}_])"
NOUN = r"(?:option|choice|letter|answer)"

TWO = "several options"
BEYOND = "no such option"

_OPEN = r"[\s\"'(\[{<*_]*+"
_CLOSE = r"[\"')\]}>*_]*+"
_NAMED = rf"(?:(?:the\s+)?(?:(?:correct|right|best|final)\s+)?{NOUN}(?:\s+(?:is|labell?ed|marked))?\s*:?|选项|选择|选)?"
_REFERENCE = re.compile(rf"{_OPEN}{_NAMED}{_OPEN}{WORD_STARTS}(?P<letter>[A-Za-z]){WORD_ENDS}(?P<close>{_CLOSE})", re.I)
# A second letter makes a reference ambiguous.
_SECOND = re.compile(
    r"\s*(?:,\s*(?:(?:and|or)\b)?|[/&+]|-(?=\S)|\b(?:and|or|und|oder|et|ou|y|o)\b|和|或|及|与|以及|还是)\s*(?:选(?:择|项)?)?"
    r"(?:(?:either|maybe|also|possibly|perhaps)\s+)?"
    rf"(?:{NOUN}\s*)?[\"'(\[*]*+(?P<letter>[A-Za-z]){WORD_ENDS}(?P<after>.?)",
    re.I,
)
# What takes a reference back, or shows that the letter is none: an equation, a genitive, an initial, a question.
DENIED = re.compile(
    r"(?:,\s*which\b)?\s*(?:(?:is|was|are|does|do|can|could|would|should|seems?)\b\s*)?"
    r"(?:not\b|n't\b|(?:incorrect|wrong|false|invalid)\b|ruled\s+out)"
    r"|\s*(?:选?项)?\s*[是也]?(?:不|错|有误)|\s*=|'[a-z]|\.[A-Za-z0-9]\b|\s*\?",
    re.I,
)
# What may follow a letter that is a word too (A, I), or in lower case: what cannot continue a phrase.
_SET_OFF = re.compile(
    r"\s*$|[^\S\n]*\n|\s*[✓✔✅🙂]|\s*[.;:!\"')\]}<(\[]|,(?!\s*as\s+an?\b)|\s+-\s|\s+(?:because|since|due\s+to)\b|\s*(?:选?项)",
    re.I,
)
# What may follow another capital letter as well: "C because", but not "C major".
_GOES_ON = re.compile(
    r"\s*[,-]|\s+(?:as|for|with|that|and|but|so|in|on|if|when|given|where|which|based|among|from|is|to)\b|\s+[A-Z]"
    rf"|\s*[{CJK}]"
)
_SENTENCE = re.compile(r"[^\n]{0,400}?(?=[.!?;]?(?:\n|$)|[.!?;]\s)")
_SYMBOLS = re.compile(r"^[^\w\s(\[{\"'<*\\-]+\s*")
_AROUND = " .,;:!\"'()[]{}<>*_-\n"


@dataclass(frozen=True)
class Found:
    """What a reference refers to.

    Attributes:
        letter: None if it is to several options, or to none of the sample's.
        problem: why there is no letter, else empty.
        end: where the reference ends.
        by_text: whether it is the option's text, not its letter.
    """

    letter: str | None
    problem: str
    end: int
    by_text: bool = False


def named(letter: str, options: Options, end: int) -> Found:
    """The reference by a letter of either case."""
    known = letter.upper() in options.letters
    return Found(letter.upper() if known else None, "" if known else BEYOND, end)


def find(text: str, start: int, options: Options, *, strict: bool = False) -> Found | None:
    """The reference to an option at ``start`` of ``text``; None if there is none.

    Args:
        strict: whether a letter must end its clause.
    """
    match = _REFERENCE.match(text, start)
    found = None if match is None else _letter(text, match, options, strict)
    if found is not None and found.problem != BEYOND:
        return found
    return _text(text, start, options) or found


def alone(text: str, options: Options) -> Found | None:
    """The reference that makes up the whole of ``text``, which has no spaces around it."""
    text = _SYMBOLS.sub("", text)
    found = find(text, 0, options, strict=True)
    if found is None:
        return None
    rest = text[found.end :].strip(_AROUND)
    if not re.search(r"[\w?]", rest):
        rest = ""
    if found.by_text or not rest or rest in ("项", "选项"):
        return None if rest and found.by_text else found
    own = options.text(found.letter) if found.letter else ""
    return found if own and normalized(rest) == own else None


def after_own_text(text: str, end: int, letter: str, options: Options) -> int | None:
    """Where the option's text ends that follows its letter; None if another text follows."""
    own = options.text(letter) if letter in options.letters else ""
    following = text[end : end + len(own) + 60]
    if not own or not normalized(following.lstrip(_AROUND)).startswith(own):
        return None
    raw = (options.texts[LETTERS.index(letter)] or "").strip()
    place = following.lower().find(raw.lower())
    return end + (len(own) if place < 0 else place + len(raw))


def _letter(text: str, match: re.Match[str], options: Options, strict: bool) -> Found | None:
    letter, end = match["letter"], match.end()
    upper = letter.upper()
    own_end = after_own_text(text, end, upper, options)
    second = _SECOND.match(text, end if own_end is None else own_end)
    if second is not None and _is_second(letter, second, options):
        return Found(None, TWO, second.end())
    if own_end is not None:
        return Found(upper, "", end)
    if DENIED.match(text, end):
        return None
    bracketed = text[match.start("letter") - 1 : match.start("letter")] in ("(", "[", "{") and match["close"] != ""
    plain_capital = letter.isupper() and letter not in "AI" and not strict
    if bracketed or _SET_OFF.match(text, end) or (plain_capital and _GOES_ON.match(text, end)):
        return named(letter, options, end)
    return None


def _is_second(first: str, second: re.Match[str], options: Options) -> bool:
    """Whether the letter after "and", "or" or a comma names another option, and is no word."""
    letter = second["letter"]
    if letter.upper() == first.upper() or letter.upper() not in options.letters or letter.isupper() != first.isupper():
        return False
    return letter not in "AIai" or second["after"] in ("", *".,;:!?)]}\"'\n")


def _text(text: str, start: int, options: Options) -> Found | None:
    match = _SENTENCE.match(text, start) if options.texts else None
    letter = None if match is None else options.of_text(match[0].lstrip(" :\n"))
    return None if match is None or letter is None else Found(letter, "", match.end(), by_text=True)
