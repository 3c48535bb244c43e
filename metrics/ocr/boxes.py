"""Boxes and spotted text as OCRBench v2 scores them; boxes are (x1, y1, x2, y2) in thousandths of the image.

Sources: ``IoUscore_metric.py``, ``spotting_metric.py`` and ``spotting_eval/`` (the Robust Reading Competition's
end-to-end script 1.1) in ``OCRBench_v2/eval_scripts`` of Yuliang-Liu/MultimodalOCR (commit 794c36d6).  All boxes there
are upright rectangles, so that their intersections need no polygons.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

FAR = 1_000
"""The largest coordinate."""
IOU = 0.5
"""A box is found if its IoU with the annotated one is larger."""
UNREADABLE = "###"
"""The transcription of text that does not count; a box of which more than half lies on it does not count either."""
AREA = 0.5
MARKS = "!?.:,*\"()·[]/'"
"""What the first and last character of an annotated text may be besides its text."""
UNPARSED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What ``ast.literal_eval`` and ``int`` raise for a model's text."""

_FOUR = re.compile(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*[)\]]")
_BRACKETED = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_QUOTED = re.compile(r"\s*\"(.*)\"\s*", re.DOTALL)

Box = tuple[int, int, int, int]


class Spotted(NamedTuple):
    """A text and its box."""

    box: Box
    text: str


def last_box(answer: str) -> Box | None:
    """The last four numbers in brackets that are from 0 to 1000; None if there are none."""
    found: Box | None = None
    for match in _FOUR.finditer(answer):
        numbers = match.groups()
        if all(len(number.lstrip("0")) <= len(str(FAR)) for number in numbers):
            x1, y1, x2, y2 = map(int, numbers)
            found = (x1, y1, x2, y2) if max(x1, y1, x2, y2) <= FAR else found
    return found


def iou(first: Sequence[Any], second: Sequence[Any]) -> float:
    """The IoU of two boxes whose coordinates are converted to integers; 0 if they are no boxes."""
    try:
        a, b = ([int(value) for value in box] for box in (first, second))
        shared = _overlap(a, b)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    except UNPARSED:
        return 0.0
    return shared / union if shared and union else 0.0


def _overlap(a: Sequence[int], b: Sequence[int]) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def spotted(answer: str) -> list[Spotted]:
    """The texts with boxes in an answer: a Python list of five values each, or else whatever is in brackets.

    Left out are coordinates that are no integers from 0 to 1000, and repetitions.
    """
    try:
        value = ast.literal_eval(answer)
    except UNPARSED:
        value = None
    rows: Iterator[Sequence[Any]]
    if value is None:
        rows = (match[1].strip().split(",", 4) for match in _BRACKETED.finditer(answer))
    else:
        listed = value if isinstance(value, list | tuple) else ()
        rows = (row for row in listed if isinstance(row, list | tuple))
    found: dict[Spotted, None] = {}
    for row in rows:
        if len(row) < 5:
            continue
        try:
            x1, y1, x2, y2 = (int(str(number).strip()) for number in row[:4])
            text = str(row[4]).replace("\n", "").strip().strip('"').strip("'")
        except UNPARSED:
            continue
        if min(x1, y1, x2, y2) >= 0 and max(x1, y1, x2, y2) <= FAR:
            found[Spotted((x1, y1, x2, y2), text)] = None
    return list(found)


def _unquoted(text: str) -> str:
    """A transcription as the competition's script reads it from a line."""
    text = text.replace("\r", "")
    match = _QUOTED.fullmatch(text)
    return match[1].replace("\\\\", "\\").replace('\\"', '"') if match else text


def spotting(found: Sequence[Spotted], right: Sequence[Spotted]) -> float:
    """The harmonic mean of precision and recall of texts with boxes, in [0, 1].

    Each annotated box takes, in order, the first free box with an IoU above 0.5; it is right if the texts are equal
    without case and without a mark at either end of the annotated one.
    """
    found = [Spotted(item.box, _unquoted(item.text)) for item in found if _is_proper(item.box)]
    right = [Spotted(item.box, _unquoted(item.text)) for item in right]
    if not found or not right:
        return 0.0
    ignored = [item.box for item in right if item.text == UNREADABLE]
    counted = [item for item in found if not any(_lies_on(item.box, box) for box in ignored)]
    free = dict.fromkeys(range(len(counted)))
    wanted = [item for item in right if item.text != UNREADABLE]
    correct = 0
    for item in wanted:
        place = next((place for place in free if iou(item.box, counted[place].box) > IOU), None)
        if place is not None:
            del free[place]
            correct += _is_transcription(counted[place].text.upper(), item.text.upper())
    recall = correct / len(wanted) if wanted else 0.0
    precision = correct / len(counted) if counted else 0.0
    return 2 * precision * recall / (precision + recall) if correct else 0.0


def _is_proper(box: Box) -> bool:
    return box[0] < box[2] and box[1] < box[3]


def _lies_on(box: Box, other: Box) -> bool:
    return _overlap(box, other) / ((box[2] - box[0]) * (box[3] - box[1])) > AREA


def _is_transcription(text: str, right: str) -> bool:
    """Whether ``text`` is the annotated text, without a mark at its ends."""
    first, last = right[:1] in MARKS, right[-1:] in MARKS
    options = {right, right[1:] if first else right, right[:-1] if last else right}
    return text in options | ({right[1:-1]} if first and last else set())
