"""Finds the numbers of boxes and points in final answers (``evalkit.reasoning``), not converted to pixels.

Answers are untrusted: every pattern here takes time linear in the answer's length (quantifiers are possessive where
backtracking could repeat work), and nothing here raises.
"""

from __future__ import annotations

import re

from evalkit.unfinished import mentions_unfinished

Numbers = tuple[float, float, float, float]
"""(x1, y1, x2, y2) as an answer states them."""
PointNumbers = tuple[float, float]
"""(x, y) as an answer states them."""

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


def box_numbers(text: str) -> Numbers | None:
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


# --------------------------------------------------------------------------------------------------------------- points

# What closes a point, so that the first two numbers of a box are none.
_POINT_END = r"(?:[\"']?+\s*+[\])]|[\"'])"
_POINTS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        # JSON: a point, or the argument of a tool call
        rf"[\"'](?:point(?:_2d)?|coordinates?|position|click)[\"']\s*+:\s*+(?:[\[(\"']\s*+)++{_TWO}{_POINT_END}",
        rf"<(?:\|point_start\||\|box_start\||point|box)>\s*+[\[(]{_TWO}[\])]\s*+<",  # tags
        rf"<point>{_NUMBER}(?<=\s){_NUMBER}</point>",
        rf"<points?\s++x1?={_NUMBER}[\"']?+\s*+y1?={_NUMBER}[\"']",
        # click(x=…, y=…), {"x": …, "y": …}
        rf"\bx[\"']?+\s*+[=:]{_NUMBER}[\"']?+\s*+,?+\s*+[\"']?+y[\"']?+\s*+[=:]{_NUMBER}",
    )
)
_BARE_POINT = re.compile(rf"[\[(]{_TWO}[\"']?+\s*+[\])]", re.ASCII)
_ONLY_POINT = re.compile(rf"{_TWO}\.?\s*+", re.ASCII)


def point_numbers(text: str) -> PointNumbers | None:
    """The two numbers of the first point of an answer, not converted.

    JSON (``"point_2d": [x, y]``, ``"coordinate": [x, y]`` of a tool call), tags (``<point>x y</point>``,
    ``<|point_start|>(x,y)<|point_end|>``) and ``x=…, y=…`` come before ``(x, y)`` or ``[x, y]`` wherever it stands, and
    before ``x, y`` alone.  None if there is none, or if the bare form is mentioned in deliberation that breaks off, or
    is the corner of a box.
    """
    plain = text.translate(_WIDE)
    match = next(filter(None, (pattern.search(plain) for pattern in _POINTS)), None)
    if match is None:
        match = _BARE_POINT.search(plain)
        if match is not None:
            box = _BOXES[-1].search(plain)
            corner = box is not None and box.start() <= match.start() < box.end()
            if corner or mentions_unfinished(plain[: match.start()], plain[match.end() :]):
                return None
    match = match or _ONLY_POINT.fullmatch(plain)
    if match is None:
        return None
    x, y = (float(number) for number in match.groups())
    return x, y
