"""Parses final answers (``evalkit.reasoning``): the four numbers of a box.

Answers are untrusted: every pattern here takes time linear in the answer's length (quantifiers are possessive where
backtracking could repeat work), and nothing here raises.
"""

from __future__ import annotations

import re

from evalkit.reasoning import mentions_unfinished

Numbers = tuple[float, float, float, float]

SPECIAL = re.compile(r"<\|[a-z0-9_]++\|>")

# Full-width forms of printable ASCII, and the Chinese punctuation that stands for it.
_WIDE = {0xFF01 + i: 0x21 + i for i in range(94)} | str.maketrans("【】、。“”−　", '[],.""- ')


# ---------------------------------------------------------------------------------------------------------------- boxes

_NUMBER = r"\s*+[\"']?+\s*+([-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+)\s*+"
_NEXT = rf"[\"']?+\s*+,{_NUMBER}"
_TWO = f"{_NUMBER}{_NEXT}"
_FOUR = f"{_TWO}{_NEXT}{_NEXT}"
_PAIR = rf"\({_TWO}\)\s*+,?\s*+\({_TWO}\)"
_BETWEEN = r"\s*+(?:[,;–-]|to\b)?+\s*+"
# The rest of two corners, such as [[a, b], [c, d]] or (a, b) to (c, d).  A third point makes it an outline.
_SECOND = rf"[\])]{_BETWEEN}[\[(]{_TWO}[\])](?!{_BETWEEN}[\[(])"
_OUTLINE = rf"(?:[\[(]{_TWO.replace('([-+]', '(?:[-+]')}[\])]{_BETWEEN}){{3,}}+"
_CLOSED = r"(?:[\"']?+\s*+[\])]|[\"'])"
_BOXES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        # JSON, fenced or not; the numbers in a list, in a text, or as two corners
        rf"[\"']bbox(?:_2d)?[\"']\s*+:\s*+(?:[\[(\"']\s*+)++(?:{_FOUR}{_CLOSED}|{_TWO}{_SECOND})",
        rf"<(?:\|box_start\||box)>\s*+{_PAIR}",  # tags; the expression before them may have brackets of its own
        # bare, maybe in a sentence
        rf"{_PAIR}|[\[(]{_FOUR}[\"']?+\s*+[\])]|{_OUTLINE}|[\[(]{_TWO}{_SECOND}",
    )
)


def numbers(text: str) -> Numbers | None:
    """The four numbers of the first box of an answer, not converted.

    ``"bbox_2d": [a, b, c, d]`` or ``bbox`` comes before ``<box>(a,b),(c,d)``, and that before ``(a,b),(c,d)``,
    ``[a, b, c, d]``, ``(a, b, c, d)``, ``[[a, b], [c, d]]`` or ``(a, b) to (c, d)`` wherever they stand.  Numbers may
    be quoted.  None if there is none, or if the last sort is mentioned in deliberation that breaks off.  A number can
    be infinite (``1e999``).
    """
    plain = text.translate(_WIDE)
    match = next(filter(None, (pattern.search(plain) for pattern in _BOXES)), None)
    if match is None:
        return None
    if match.re is _BOXES[-1] and mentions_unfinished(plain[: match.start()], plain[match.end() :]):
        return None
    found = [float(number) for number in match.groups() if number is not None]
    if len(found) != 4:  # an outline
        return None
    a, b, c, d = found
    return a, b, c, d
