"""What benchmarks of clicks share: boxes of annotations, prompts and rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit import points
from evalkit.data import shown
from evalkit.tasks._files import is_coordinate
from evalkit.types import Box, PromptTemplate, ScoringRule

PROMPTS: Mapping[str, PromptTemplate] = {
    "lmms-eval": PromptTemplate(
        "Identify the UI element for the instruction and output exactly one click point as [x, y] in normalized "
        "coordinates within [0, 1]. Do not output a bounding box.\nInstruction: {q}",
        max_new_tokens=128,
    ),
    "vlmevalkit": PromptTemplate("Please complete the following tasks by clicking using `pyautogui.click`:\n{q}"),
}
PROTOCOL_RULES = {"lmms-eval": "lmms-eval-75571cf", "vlmevalkit": "vlmevalkit-e8e78f0"}
SEECLICK_MACRO = ScoringRule(
    points.SEECLICK, "point_in_box_macro", "SeeClick's script, with the mean over platform and type as in its table"
)


def harness_rules(vlmevalkit_metric: str) -> dict[str, ScoringRule]:
    """The rules of other harnesses, by name."""
    return {
        "vlmevalkit-e8e78f0": ScoringRule(
            points.VLMEVALKIT, vlmevalkit_metric, "VLMEvalKit's: pyautogui.click(x=…, y=…), fractions or pixels"
        ),
        "lmms-eval-75571cf": ScoringRule(points.LMMS_EVAL, about="lmms-eval's: fractions, or pixels above 1"),
    }


def box_of(value: Any, *, sizes: bool) -> Box:
    """The box in ``value``, four numbers in pixels.

    Args:
        sizes: whether they are x, y, width and height; otherwise they are two corners.

    Raises:
        ValueError: they are not four numbers, or enclose nothing.
    """
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(is_coordinate, value)):
        raise ValueError(f"the box is {shown(value)}, not four numbers")
    a, b, c, d = map(float, value)
    box = (a, b, a + c, b + d) if sizes else (a, b, c, d)
    if box[0] > box[2] or box[1] > box[3]:
        raise ValueError(f"the box is {shown(value)}, which encloses nothing")
    return box


def scaled(box: Sequence[float], size: tuple[int, int]) -> Box:
    """A box in fractions of an image as pixels."""
    (x1, y1, x2, y2), (width, height) = box, size
    return x1 * width, y1 * height, x2 * width, y2 * height


def cell(platform: str, kind: str) -> dict[str, str]:
    """The entries of ``meta`` by which tables break scores down."""
    return {"platform": platform, "type": kind, "cell": f"{platform} {kind}"}
