"""Weaker signs of an answer: a line of its own, a marked letter in front, bold, an option's text in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .options import Options, Reading
from .reference import BEYOND, CJK, DENIED, NOUN, TWO, WORD_ENDS, WORD_STARTS, Found, after_own_text, alone, find
from .text import unmarked

LONGEST_LINE = 300
_MARKER = re.compile(
    rf"[\s\"'(\[{{<*_-]*+(?:(?P<letter>[A-Z]{WORD_ENDS}|[a-z](?=[)\]}}.:])(?!\.[a-z]\.))"
    r"(?:[\"'*_]*+[.:)\]}>](?!\w\.)|\s+-\s|-\s|\s+(?:because|since)\b)|(?P<comma>[A-HJ-Z]),)"
)
_LINE = re.compile(r"^.*\S.*$", re.M)
_INLINE = re.compile(r"(?<=[\s(])(?P<letter>[A-Z])[.)]\s|\((?P<lower>[a-z])\)")
_NAMED = re.compile(rf"[(\[](?P<bracketed>[A-Z])[)\]]|{WORD_STARTS}(?P<letter>[A-Z])[.:)]\s?(?=\S)")
_CLOSING = re.compile(r"(?:\b(?:is|be|as)|是|为)[\s:]*(?P<letter>[A-Z])\s*\.?\s*\Z")
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*|__([^_\n]{1,200})__")
_DENIAL = re.compile(
    r"\b(?:not|no|none|never|cannot|neither|nor|without|unable|unclear|incorrect|wrong|sorry|either|or|both|unless)\b"
    r"|n't\b|[不没无非]",
    re.I,
)
_NEGATED = re.compile(
    r"\b(?:not|never|neither|nor|than|unlike|whether)\b[^.]{0,30}$|n't\b[^.]{0,30}$|[不非别][^.]{0,6}$", re.I
)
_MENTION = re.compile(rf"\b{NOUN}s?\s+[(\[\"']?[A-Z]{WORD_ENDS}|选项\s*[A-Z]", re.I)
_BETWEEN = re.compile(r"\s+")
_SENTENCE_END = re.compile(rf"[.;!?](?=\s|$|[{CJK}])")
_AT_START_ONLY = frozenset({"yes", "no", "true", "false", "none", "是", "否", "有", "没有", "对", "错"})


def markers(plain: str) -> list[str]:
    """The letters that lines begin with, as in a list: ``B. …``, ``(b) …``, ``B - …``."""
    found = (_MARKER.match(line) for line in plain.split("\n"))
    return [(match["letter"] or match["comma"]).upper() for match in found if match]


def lines(plain: str, options: Options) -> Iterator[tuple[int, Found]]:
    """The last line that is a reference and its place, if all such lines refer to the same option.

    A line of a letter counts anywhere.  One with a text counts as the first or the last of the answer, unless the line
    beside it has a marked letter too: a list of the options is no answer.
    """
    found = []
    every = [(match.end(), match[0]) for match in _LINE.finditer(plain)]
    for number, (place, line) in enumerate(every):
        one = alone(line.strip(), options) if len(line) <= LONGEST_LINE else None
        if one is not None:
            bare = not one.by_text and len(re.findall(r"\w", line)) == 1
            beside = every[number + 1 : number + 2] if number == 0 else every[number - 1 : number]
            listed = any(_MARKER.match(other) for _, other in beside)
            if bare or (number in (0, len(every) - 1) and not listed):
                found.append((place, one))
    if len({one.letter for _, one in found}) == 1:
        yield found[-1]


def marked(plain: str, options: Options) -> Reading | None:
    """The marked letter that the first or the last line begins with, if no line has another one."""
    every = set(markers(plain))
    if not every:
        return None
    first = find(plain, 0, options)
    if len(every) > 1 or (first is not None and first.problem == TWO):
        return Reading(None, TWO)
    (letter,) = every
    filled = [line for line in plain.split("\n") if line.strip()]
    found = [(line, match) for line in (filled[0], filled[-1]) if (match := _MARKER.match(line)) is not None]
    if not found:
        return None
    if letter not in options.letters:
        return Reading(None, BEYOND)
    line, match = found[0]
    rest = after_own_text(line, match.end(), letter, options) or match.end()
    others = {(m["letter"] or m["lower"]).upper() for m in _INLINE.finditer(line, rest)}
    others.add(line[match.end() :].strip(" ."))  # B. C
    return Reading(None, TWO) if (others & set(options.letters)) - {letter} else Reading(letter, "marked")


def only(plain: str, options: Options) -> Reading | None:
    """The only option that is named as in the prompt: ``(B)``, or its letter and text, ``B. blue``.

    Also the letter that ends the answer after "is", unless options are about letters themselves ("point A").
    """
    found = {
        letter: match
        for match in _NAMED.finditer(plain)
        if (letter := match["bracketed"] or match["letter"]) in options.letters
        and (match["bracketed"] or after_own_text(plain, match.end(), letter, options))
    }
    closing = None if found or options.about_letters else _CLOSING.search(plain)
    if closing is not None and closing["letter"] in options.letters:
        found[closing["letter"]] = closing
    if not found:
        return None
    if len(found) > 1:
        return Reading(None, TWO)
    ((letter, match),) = found.items()
    before = plain[max(0, match.start() - 40) : match.start()]
    return None if _NEGATED.search(before) or DENIED.match(plain, match.end()) else Reading(letter, "only")


def bold(text: str, options: Options) -> Reading | None:
    """The option that is bold, if it is the only one.  ``text`` still has its Markdown."""
    spans = (match[1] or match[2] for match in _BOLD.finditer(text))
    found = [one for span in spans if (one := alone(unmarked(span).strip(), options)) is not None]
    if not found:
        return None
    if len({one.letter for one in found}) > 1:
        return Reading(None, TWO)
    return Reading(found[0].letter, found[0].problem or "bold")


def sentence(plain: str, options: Options) -> Reading | None:
    """The option whose text a short answer contains, if it is the only one; see ``grammar.py``."""
    if len(plain) > LONGEST_LINE:
        return None
    text = _BETWEEN.sub(" ", plain.casefold())
    spans = [(span, own) for own in options.unique for span in _words(own, text)]
    kept = [(span, own) for span, own in spans if not any(_inside(span, longer) for longer, _ in spans)]
    stated = {own for span, own in kept if _states(span, own, text)}
    return Reading(options.unique[stated.pop()], "sentence") if len(stated) == 1 else None


def _states(span: tuple[int, int], own: str, text: str) -> bool:
    """Whether the sentence around an option's text denies nothing and names no letter."""
    start, end = span
    if own in _AT_START_ONLY:
        return start == 0
    before = _SENTENCE_END.split(text[:start])[-1]
    after = _SENTENCE_END.split(text[end:])[0]
    return not _DENIAL.search(f"{before} {after}") and not _MENTION.search(f"{before} {after}")


def _inside(span: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether ``span`` is a part of a longer one: "red" in "dark red"."""
    return span != other and other[0] <= span[0] and span[1] <= other[1]


def _words(own: str, text: str) -> Iterator[tuple[int, int]]:
    """Where ``own`` stands in ``text`` as words of its own, and not as a part of a number."""
    for match in re.finditer(re.escape(own), text):
        before, after = text[: match.start()][-2:], text[match.end() :][:2]
        if own[0].isascii() and re.search(rf"[^\W{CJK}]$|\d[.,]$|[-$]$", before):
            continue
        if own[-1].isascii() and re.match(rf"[^\W{CJK}]|[.,]\d|%", after):
            continue
        yield match.span()
