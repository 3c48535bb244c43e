"""Rules that read points, against the official scripts' outputs and on answers that models give."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit import points
from evalkit.errors import UserError
from evalkit.metrics.point_in_box import is_inside
from evalkit.points import read_point

GOLDEN = json.loads((Path(__file__).parent / "golden" / "screenspot.json").read_text())["cases"]


@pytest.mark.parametrize("case", GOLDEN, ids=[case["id"] for case in GOLDEN])
def test_seeclick_agrees_with_its_script(case: dict[str, Any]) -> None:
    inputs, expected = case["inputs"], case["expected"]
    rule = points.point_rule(points.SEECLICK)
    found = rule.read(inputs["response"])
    assert (found is None) == (expected["status"] == "wrong_format")
    if found is not None:
        assert list(found) == pytest.approx(expected["click_point"], rel=1e-15)
    x, y, w, h = inputs["bbox_xywh"]
    point = None if found is None else rule.pixels(found, tuple(inputs["image_size"]))
    assert (point is not None and is_inside(point, (x, y, x + w, y + h))) == expected["correct"]


READINGS = {
    "tool call": ('<tool_call>\n{"name": "computer_use", "arguments": {"action": "left_click", "coordinate": [467, 109]}}\n</tool_call>', (467, 109)),
    "point_2d": ('```json\n[\n\t{"point_2d": [12, 34], "label": "the button"}\n]\n```', (12, 34)),
    "tags": ("<|object_ref_start|>the button<|object_ref_end|><|point_start|>(12,34)<|point_end|>", (12, 34)),
    "point tag": ("<point>510 120</point>", (510, 120)),
    "points": ('<points x1="394" y1="105">the pin</points>', (394, 105)),
    "pyautogui": ("pyautogui.click(x=0.25, y=0.5)", (0.25, 0.5)),
    "object": ('{"x": 5, "y": 6}', (5, 6)),
    "in a sentence": ("Click at (0.31, 0.4).", (0.31, 0.4)),
    "brackets": ("[0.5, 0.25]", (0.5, 0.25)),
    "bare": ("0.5, 0.25", (0.5, 0.25)),
    "boxed": (r"The point is \boxed{(3, 4)}", (3, 4)),
    "full width": ("（３０，４０）", (30, 40)),
    "first of several": ("(1, 2) or, perhaps, (3, 4).", (1, 2)),
}  # fmt: skip
BOXES = {
    "JSON": ('{"bbox_2d": [10, 20, 30, 60]}', (20, 40)),
    "corners": ("<|box_start|>(10,20),(30,60)<|box_end|>", (20, 40)),
    "pairs": ("(10,20),(30,60)", (20, 40)),
    "four": ("[10, 20, 30, 60]", (20, 40)),
    "tool call": ('{"arguments": {"coordinate": [10, 20, 30, 60]}}', (20, 40)),
}


@pytest.mark.parametrize("name", READINGS)
def test_points_are_read(name: str) -> None:
    text, expected = READINGS[name]
    assert read_point(text) == read_point(text, points.CLICK) == expected
    assert read_point(text, points.BOX_CENTRE) is None


@pytest.mark.parametrize("name", BOXES)
def test_boxes_count_by_their_centre(name: str) -> None:
    text, expected = BOXES[name]
    assert read_point(text) == read_point(text, points.BOX_CENTRE) == expected
    assert read_point(text, points.CLICK) is None


@pytest.mark.parametrize(
    "text", ["", "The button is not visible.", "3", "(1e999, 2)", "Let me look. It may be at (3, 4) or else the"]
)
def test_answers_without_a_point(text: str) -> None:
    assert read_point(text) is None


CALL = '<tool_call>\n{{"name": "left_click", "arguments": {}}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALL.format('{"coordinate": [467, 109]}'), (467, 109)),
        (CALL.format('{"coordinate": [10, 20, 30, 60], "time": 2}'), (20, 40)),
        (CALL.format("[467, 109]"), None),
        (CALL.format('{"coordinate": [467]}'), None),
        (CALL.format('{"coordinate": "467, 109"}'), None),
        ("[467, 109]", None),
    ],
)
def test_screenspot_pro_reads_the_tool_call_alone(text: str, expected: tuple[float, float] | None) -> None:
    assert read_point(text, points.SCREENSPOT_PRO) == expected


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("pyautogui.click(x=0.25, y=0.5)", (200, 100), (50, 50)),
        ("x=120, y=0.5", (200, 100), (120, 0.5)),  # one number above 1: both are pixels
        ("x = 0.25, y = 0.5", (200, 100), (0, 0)),  # no match: the point (0, 0)
        ("[0.25, 0.5]", (200, 100), (0, 0)),
    ],
)
def test_vlmevalkit(text: str, size: tuple[int, int], expected: tuple[float, float]) -> None:
    found = read_point(text, points.VLMEVALKIT)
    assert found is not None
    assert points.point_rule(points.VLMEVALKIT).pixels(found, size) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0.25, 0.5]", (0.25, 0.5)),
        ("(25% 50%)", (0.25, 0.5)),
        ("<bbox>0.1, 0.2, 0.3, 0.6</bbox>", (0.2, 0.4)),
        ('{"x": 0.25, "label": 3, "y": 0.5}', (0.25, 0.5)),
        ("the box 0.1 0.2 0.3 0.6", (0.2, 0.4)),
        ("at 0.1 0.2 0.3 0.6", (0.1, 0.2)),
        ("nowhere", None),
    ],
)
def test_lmms_eval(text: str, expected: tuple[float, float] | None) -> None:
    found = read_point(text, points.LMMS_EVAL)
    assert found == (None if expected is None else pytest.approx(expected))


def test_unknown_rule() -> None:
    with pytest.raises(UserError, match="there is no rule 'x' for points: there are evalkit-point-1, click-1"):
        read_point("(1, 2)", "x")


HOSTILE = ("(1," * 50_000, "[1" + " " * 100_000, "<bbox>" * 30_000, "x=" * 60_000, "x=1" + " " * 100_000, "(1,2),(" * 30_000, "<tool_call>\n" + "[" * 50_000)  # fmt: skip


@pytest.mark.parametrize("rule", points.RULES)
def test_reading_takes_linear_time(rule: str) -> None:
    for text in HOSTILE:
        began = time.process_time()  # quadratic time would be minutes
        read_point(text, rule)
        assert time.process_time() - began < 20
