"""How an answer that points into an image is read: a text in, a point out.

``read_point(text, rule)`` applies a named rule.  A rule that reads any answer differently gets a new name, because the
name is in the signature of every score.  The coordinates of most rules are those of the model family, or those that
are stated with ``--boxes``.  Other harnesses' rules have coordinates of their own.

- ``evalkit-point-1``: the first point (``evalkit.coordinates``), else the centre of the first box.
- ``click-1``: the first point; a box is no answer.
- ``box-centre-1``: the centre of the first box; a point is no answer.
- ``seeclick``: ``pretrain/screenspot_test.py`` of njucckevin/SeeClick (commit 0ef37ac), in fractions of the image.  An
  answer that contains ``box`` must have a ``<box>(x1,y1),(x2,y2)</box>`` without spaces, in thousandths, and the centre
  counts; any other must have exactly two numbers, or four of which the centre counts.
- ``screenspot-pro``: ``models/qwen2_5vl.py`` of likaixin2000/ScreenSpot-Pro-GUI-Grounding (commit bd8bbbb), in the
  family's coordinates: the JSON of the first tool call has ``arguments`` with a ``coordinate`` of two numbers, or of
  four of which the centre counts.
- ``vlmevalkit-point``: the ScreenSpot classes of open-compass/VLMEvalKit (commit e8e78f0): ``x=…, y=…``.  An answer
  without it is the point (0, 0), which is parsed.  Fractions of the image, or pixels where either number exceeds 1, so
  that thousandths are misread.
- ``lmms-eval-point``: ``screenspot_v2`` and ``screenspot_pro`` of EvolvingLMMs-Lab/lmms-eval (commit 75571cf): the
  centre of ``<bbox>…</bbox>``, the first ``[x, y]`` or ``(x, y)``, ``x: …, y: …``, else the first numbers of the text.
  Fractions (or percent), or pixels where either number exceeds 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evalkit.coordinates import Numbers, PointNumbers, box_numbers, point_numbers
from evalkit.errors import UserError
from evalkit.reasoning import unwrap

DEFAULT = "evalkit-point-1"
CLICK, BOX_CENTRE = "click-1", "box-centre-1"
SEECLICK, SCREENSPOT_PRO = "seeclick", "screenspot-pro"
VLMEVALKIT, LMMS_EVAL = "vlmevalkit-point", "lmms-eval-point"

FRACTIONS = "0-1"
FRACTIONS_OR_PIXELS = "0-1, or pixels where a number exceeds 1"


@dataclass(frozen=True)
class PointRule:
    """How the numbers of a point are found in an answer.

    Attributes:
        read: the numbers in a text; None without a point.
        frame: the rule's own coordinates; empty for those of the model family.
    """

    read: Callable[[str], PointNumbers | None]
    frame: str = ""

    def pixels(self, numbers: PointNumbers, size: tuple[int, int]) -> PointNumbers:
        """The point in pixels of an image of ``size``, (width, height); for rules with coordinates of their own."""
        by_pixels = self.frame == FRACTIONS_OR_PIXELS and max(numbers) > 1
        (x, y), (width, height) = numbers, size
        return (x, y) if by_pixels else (x * width, y * height)


def centre(box: Numbers) -> PointNumbers:
    """The centre of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _click(text: str) -> PointNumbers | None:
    return point_numbers(unwrap(text))


def _box_centre(text: str) -> PointNumbers | None:
    box = box_numbers(unwrap(text))
    return None if box is None else centre(box)


def _evalkit(text: str) -> PointNumbers | None:
    return _click(text) or _box_centre(text)


_SEECLICK_BOX = re.compile(r"<box>\((\d+),(\d+)\),\((\d+),(\d+)\)</box>")
_SEECLICK_NUMBER = re.compile(r"-?\d+\.?\d*")  # Unicode's digits, too, as in the script


def _seeclick(text: str) -> PointNumbers | None:
    if "box" in text:
        match = _SEECLICK_BOX.search(text)
        if match is None:
            return None
        x1, y1, x2, y2 = map(float, match.groups())
        return (x1 + x2) / 2 / 1000, (y1 + y2) / 2 / 1000
    return _two_or_four([float(found) for found in _SEECLICK_NUMBER.findall(text)])


def _two_or_four(found: list[float]) -> PointNumbers | None:
    """A point of two numbers, the centre of a box of four, else None."""
    if len(found) == 2:
        return found[0], found[1]
    if len(found) == 4:
        return centre((found[0], found[1], found[2], found[3]))
    return None


def _screenspot_pro(text: str) -> PointNumbers | None:
    _, opening, call = text.partition("<tool_call>\n")
    if not opening:
        return None
    try:
        found = json.loads(call.split("\n</tool_call>")[0])["arguments"]["coordinate"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(found, list) or not all(type(number) in (int, float) for number in found):
        return None
    return _two_or_four([float(number) for number in found])


_VLMEVALKIT = re.compile(r"x=([\d.]+), y=([\d.]+)")


def _vlmevalkit(text: str) -> PointNumbers | None:
    match = _VLMEVALKIT.search(text)
    if match is None:
        return 0.0, 0.0
    try:
        return float(match[1]), float(match[2])
    except ValueError:  # 1.2.3
        return None


_TOKEN = r"-?\d+(?:\.\d+)?%?"
_TOKENS = re.compile(_TOKEN)
_BBOX_OPEN = re.compile(r"<\s*+bbox[^>]*+>", re.I)
_BBOX_CLOSE = re.compile(r"<\s*+/\s*+bbox\s*+>", re.I)
_BRACKETS = re.compile(rf"[\[(]\s*+({_TOKEN})(?:\s*+,\s*+|\s++)({_TOKEN})\s*+[\])]")
_X, _Y = (re.compile(rf"['\"]?{name}['\"]?\s*[:=]\s*({_TOKEN})", re.I) for name in "xy")
_ABOUT_BOXES = ("box", "rect")


def _lmms_eval(text: str) -> PointNumbers | None:
    opening = _BBOX_OPEN.search(text)
    closing = None if opening is None else _BBOX_CLOSE.search(text, opening.end())
    inside: list[float] = []
    if opening is not None and closing is not None:
        inside = [_share(token) for token in _TOKENS.findall(text[opening.end() : closing.start()])]
    if len(inside) >= 4:
        return centre((inside[0], inside[1], inside[2], inside[3]))
    match = _BRACKETS.search(text)
    if match is not None:
        return _share(match[1]), _share(match[2])
    x = _X.search(text)
    y = None if x is None else _Y.search(text, x.end())
    if x is not None and y is not None:
        return _share(x[1]), _share(y[1])
    found = [_share(token) for token in _TOKENS.findall(text)]
    if len(found) >= 4 and any(word in text.lower() for word in _ABOUT_BOXES):
        return centre((found[0], found[1], found[2], found[3]))
    return (found[0], found[1]) if len(found) >= 2 else None


def _share(token: str) -> float:
    return float(token[:-1]) / 100 if token.endswith("%") else float(token)


RULES: Mapping[str, PointRule] = {
    DEFAULT: PointRule(_evalkit),
    CLICK: PointRule(_click),
    BOX_CENTRE: PointRule(_box_centre),
    SEECLICK: PointRule(_seeclick, FRACTIONS),
    SCREENSPOT_PRO: PointRule(_screenspot_pro),
    VLMEVALKIT: PointRule(_vlmevalkit, FRACTIONS_OR_PIXELS),
    LMMS_EVAL: PointRule(_lmms_eval, FRACTIONS_OR_PIXELS),
}
"""The rules by name."""


def point_rule(name: str) -> PointRule:
    """The rule called ``name``.  Raises ``UserError`` if there is none."""
    if name not in RULES:
        raise UserError(f"there is no rule {name!r} for points: there are {', '.join(RULES)}.")
    return RULES[name]


def read_point(text: str, rule: str = DEFAULT) -> PointNumbers | None:
    """The numbers of the point that an answer states; None if it states none, or infinite ones.

    Args:
        text: the answer, without reasoning.
        rule: a name of ``RULES``.

    Raises:
        UserError: there is no such rule.
    """
    found = point_rule(rule).read(text)
    return found if found is not None and all(map(math.isfinite, found)) else None
