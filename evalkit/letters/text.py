"""Answers and option texts without what does not matter: widths, Markdown, LaTeX and HTML."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 20_000
"""Of a longer answer only this many characters are read, most of them at its end: reading takes bounded time."""
_HEAD = 2_000

# What NFKC leaves as it is.
_SIGNS = {
    ord(sign): plain
    for plain, signs in {
        ".": "。", ",": "、", "[": "【〔「『《", "]": "】〕」』》", '"': "“”„‟", "'": "‘’‚‛´", "-": "−–—―‒",
        ">": "→⇒➔➜",
    }.items()
    for sign in signs
}  # fmt: skip
_ANSWER_TAG = r"(?:final[ _-]?)?(?:answer|conclusion|choice|option|output|result|response)"
_TAG = re.compile(rf"<(?P<close>/?)\s*+(?:(?P<answer>{_ANSWER_TAG})|[a-z][a-z0-9_-]{{0,20}}+)\s*+/?>", re.I)
_NESTED = re.compile(r"<(/?)answer>(?:\s*+<\1answer>)++")
_BREAK = re.compile(r"<br\s*+/?>|\\\\|\\n(?![a-z])", re.I)
_WRAPPED = re.compile(r"\\(?:text[a-z]*+|math[a-z]++|operatorname|mbox|underline|emph)\*?\s*+\{([^{}]*+)\}")
_LATEX = re.compile(r"\\[()\[\],;! ]|\$|\\(?:quad|left|right)(?![a-z])")
_STRUCK = re.compile(r"~~[^~\n]*+~~")
_EMPHASIS = re.compile(r"\*\*++|__|`|\*(?![0-9A-Za-z(])|(?<![0-9A-Za-z)])\*")  # 2*3 is a product
_LINE_START = re.compile(r"^(?:[ \t>#•·]|[-+] (?=\S))++", re.M)
_SPACES = re.compile(r"[ \t\r\f\v]++")
_ARTICLE = re.compile(r"(?:an?|the)\s+(?=\S)")


def shortened(text: str) -> str:
    """At most ``LONGEST`` characters of an answer."""
    return text if len(text) <= LONGEST else f"{text[:_HEAD]}\n{text[_HEAD - LONGEST :]}"


def unified(text: str) -> str:
    """``text`` with one form for each sign, without LaTeX's wrappers and HTML, and ``<answer>`` for every answer tag.

    Markdown is kept.
    """
    plain = _BREAK.sub("\n", unicodedata.normalize("NFKC", text).translate(_SIGNS))
    for _ in range(3):  # \mathbf{\text{B}}
        plain = _WRAPPED.sub(r"\1", plain)
    return _NESTED.sub(r"<\1answer>", _TAG.sub(_tag, _LATEX.sub("", plain)))


def _tag(match: re.Match[str]) -> str:
    return f"<{match['close']}answer>" if match["answer"] else ""


def unmarked(text: str) -> str:
    """``text`` without Markdown's marks for emphasis, headings and quotes, and without what is struck through."""
    return _SPACES.sub(" ", _LINE_START.sub("", _EMPHASIS.sub("", _STRUCK.sub("", text))))


def normalized(text: str) -> str:
    """``text`` in a form in which equal options are equal: case, width, markup, articles and a full stop aside."""
    plain = unmarked(unified(text).replace("<answer>", " ").replace("</answer>", " "))
    plain = " ".join(plain.casefold().split()).rstrip(".,;:").strip("\"' ").rstrip(".")
    return _ARTICLE.sub("", plain, count=1)
