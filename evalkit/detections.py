"""How an answer that names all objects of some categories is read: a text in, labelled boxes out.

``read_boxes(text, rule)`` applies a named rule.  A rule that reads any answer differently gets a new name, because the
name is in the signature of every score.  The coordinates are those of the model family, or those that are stated with
``--boxes``.

- ``evalkit-boxes-1``: the first JSON list of an answer, fenced or not, maybe after a sentence; its objects have a box
  (``bbox_2d``, ``bbox``, ``box``), four finite numbers, and a ``label`` (or ``category``, ``class``, ``name``).
  Objects without such a box are left out, those without a label have an empty one.  A single object is a list of one.
  Else the boxes in ``<ref>…</ref><box>(x1,y1),(x2,y2)</box>``, or in the special tokens that stand for these tags.
  ``[]`` says that there is no object.  A list that is not complete cannot be parsed.
- ``evalkit-boxes-complete-1``: the same, but the objects that are complete before a list breaks off count.
- ``qwen3-vl-evaluation``: ``evaluation/ODinW-13/run_odinw.py`` of QwenLM/Qwen3-VL (commit 9658872): without its fence,
  the answer is a Python literal, nothing else; ``bbox_2d`` of other than four elements is left out; one object without
  ``label`` spoils the answer.  Where the script stops at an error (labels or coordinates of another type), the answer
  cannot be parsed here.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evalkit.coordinates import Numbers
from evalkit.errors import UserError
from evalkit.reasoning import unwrap

Found = tuple[tuple[str, Numbers], ...]
"""Labels with boxes, in the order of the answer, not converted to pixels."""
ReadBoxes = Callable[[str], Found | None]

DEFAULT = "evalkit-boxes-1"
COMPLETE = "evalkit-boxes-complete-1"
QWEN3_VL = "qwen3-vl-evaluation"

BOX_KEYS = ("bbox_2d", "bbox", "box")
LABEL_KEYS = ("label", "category", "class", "name")
LONGEST_LITERAL = 1_000_000
"""Characters: Python's parser needs about a kilobyte of memory for each ten."""

_DECODER = json.JSONDecoder()
_FENCE = re.compile(r"```(?:json)?\s*+(?=[\[{])", re.IGNORECASE)
_OPENING = re.compile(r"\[\s*+[\[{\]]|\{\s*+\"")
_SEPARATOR = re.compile(r"[\s,]*+")
_TAGS = re.compile(
    r"<(?:\|object_ref_start\||ref)>(?P<label>[^<]*+)<(?:\|object_ref_end\||/ref)>\s*+"
    r"|<(?:\|box_start\||box)>\s*+\(\s*+(-?\d++(?:\.\d++)?+)\s*+,\s*+(-?\d++(?:\.\d++)?+)\s*+\)\s*+,?\s*+"
    r"\(\s*+(-?\d++(?:\.\d++)?+)\s*+,\s*+(-?\d++(?:\.\d++)?+)\s*+\)\s*+<(?:\|box_end\||/box)>",
    re.ASCII,
)


def _complete_list(text: str) -> Found | None:
    return _evalkit(text, partial=False)


def _complete_objects(text: str) -> Found | None:
    return _evalkit(text, partial=True)


def _evalkit(text: str, *, partial: bool) -> Found | None:
    answer = unwrap(text)
    start = _start(answer)
    if start is None:
        return _tagged(answer)
    try:
        value, _ = _DECODER.raw_decode(answer, start)
    except (ValueError, RecursionError):
        found = list(_objects_before_break(answer, start)) if partial else []
        return _boxes_of(found) if found else None
    return _boxes_of(value if isinstance(value, list) else [value])


def _start(answer: str) -> int | None:
    """Where the JSON list or object begins."""
    match = _FENCE.search(answer)
    if match is not None:
        return match.end()
    match = _OPENING.search(answer)
    return None if match is None else match.start()


def _objects_before_break(answer: str, start: int) -> Iterator[Any]:
    """The complete objects of a list that begins at ``start`` and breaks off."""
    position = start + 1
    while True:
        position = _SEPARATOR.match(answer, position).end()  # type: ignore[union-attr]  # it matches nothing as well
        if not answer.startswith("{", position):
            return
        try:
            value, position = _DECODER.raw_decode(answer, position)
        except (ValueError, RecursionError):
            return
        yield value


def _boxes_of(entries: Sequence[Any]) -> Found | None:
    """The labelled boxes among the entries of a list; None if there are entries, and none is one."""
    found = [(_label(entry), box) for entry in entries if (box := _box(entry)) is not None]
    return tuple(found) if found or not entries else None


def _box(entry: Any) -> Numbers | None:
    if not isinstance(entry, dict):
        return None
    return _numbers(next((entry[key] for key in BOX_KEYS if key in entry), None))


def _numbers(value: Any) -> Numbers | None:
    """Four finite numbers in a list; None for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(type(one) in (int, float) for one in value):
        return None
    try:
        a, b, c, d = map(float, value)
    except OverflowError:
        return None
    return (a, b, c, d) if all(map(math.isfinite, (a, b, c, d))) else None


def _label(entry: Mapping[str, Any]) -> str:
    label = next((entry[key] for key in LABEL_KEYS if isinstance(entry.get(key), str)), "")
    return str(label).strip()


def _tagged(answer: str) -> Found | None:
    """The boxes in tags, each with the label before it."""
    label = ""
    found: list[tuple[str, Numbers]] = []
    for match in _TAGS.finditer(answer):
        if match["label"] is not None:
            label = match["label"].strip()
            continue
        box = _numbers([float(number) for number in match.groups()[1:]])
        if box is not None:
            found.append((label, box))
    return tuple(found) or None


def _qwen3_vl(text: str) -> Found | None:
    answer = text.replace("```json", "").replace("```", "")
    if len(answer) > LONGEST_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in an answer
            entries = ast.literal_eval(answer)
        kept = [(entry["label"], entry["bbox_2d"]) for entry in entries if len(entry.get("bbox_2d", [])) == 4]
    except Exception:  # as in the script, which then has no boxes
        return None
    found = [(label, _numbers(box)) for label, box in kept]
    if not all(isinstance(label, str) and box is not None for label, box in found):
        return None
    return tuple((label, box) for label, box in found if box is not None)


RULES: Mapping[str, ReadBoxes] = {DEFAULT: _complete_list, COMPLETE: _complete_objects, QWEN3_VL: _qwen3_vl}
"""The rules by name."""


def box_rule(name: str) -> ReadBoxes:
    """The rule called ``name``.  Raises ``UserError`` if there is none."""
    if name not in RULES:
        raise UserError(f"there is no rule {name!r} for boxes: there are {', '.join(RULES)}.")
    return RULES[name]


def read_boxes(text: str, rule: str = DEFAULT) -> Found | None:
    """The labelled boxes that an answer states, as it states them; None if it cannot be parsed.

    Args:
        text: the answer, without reasoning.
        rule: a name of ``RULES``.

    Raises:
        UserError: there is no such rule.
    """
    return box_rule(rule)(text)
