"""Gemma 3: prompts and answer parsing.

Sources: the report (arXiv 2503.19786) gives scores, but no prompts; those for captions, questions and options are
LLaVA's.  It does not mention boxes, and Google does not document them for this model ("likely follows the same format
as the Gemini models", a comment of Google's on google/gemma-3-4b-it).  The prompt for boxes is therefore that of
Gemini's documentation (ai.google.dev/gemini-api/docs/vision), which states the convention: ``box_2d`` is [y1, x1, y2,
x2] in thousandths of the image.  Points are [y, x], asked for as in its documentation for robotics.  Not verified:
that the models were trained on either.  Detection is asked for in words of ours, with the same order.

An image is 896 × 896 pixels whatever its shape, and 256 tokens (pan and scan is off, as in the released processor);
frames of videos are given as images.  Gemma 3n is not in this family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TypeVar

from evalkit.coordinates import Numbers, PointNumbers
from evalkit.types import ImageSize, LabelledBox, LabelledBoxes, PromptSpec

from ._chat import OTHER_SPECIAL, by_fractions
from ._prompts import DETECTION_THOUSANDTHS, LLAVA
from ._scaled import ScaledChat

N = TypeVar("N", int, float)
NAME = re.compile(r"gemma-?3(?!n)", re.IGNORECASE)

GROUNDING = "Detect {q} in the image. The box_2d should be [ymin, xmin, ymax, xmax] normalized to 0-1000."
POINTING = (
    "Point to the place in the image that fits this instruction: {q}\nThe answer should follow the json format: "
    '[{{"point": [y, x], "label": "…"}}]. The point is in [y, x] format normalized to 0-1000.'
)
DETECTION = DETECTION_THOUSANDTHS.replace("x1, y1, x2, y2", "y1, x1, y2, x2").replace(
    "left, top, right and bottom", "top, left, bottom and right"
)


class Gemma3(ScaledChat):
    """The family of Gemma 3 checkpoints with a vision encoder."""

    name = "gemma-3"
    model_types = ("gemma3",)
    coordinates = "integers from 0 to 1000, thousandths of the image; y before x"
    special = OTHER_SPECIAL
    official = {**LLAVA, "grounding": GROUNDING, "pointing": POINTING, "detection": DETECTION}
    without_sharing = "tokens of an image see each other both ways, and most layers have a sliding window"

    def matches_name(self, name: str) -> bool:
        return NAME.search(name) is not None

    def numbers(self, spec: PromptSpec, answer: str) -> Numbers | None:
        box = super().numbers(spec, answer)
        return box if box is None or by_fractions(spec) else turned(box)

    def point_numbers(self, spec: PromptSpec, answer: str) -> PointNumbers | None:
        point = super().point_numbers(spec, answer)
        return point if point is None or by_fractions(spec) or spec.point_rule.frame else (point[1], point[0])

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        item = {"box_2d": list(turned(self.integers(box))), "label": expression}
        return f"```json\n[\n  {json.dumps(item, ensure_ascii=False)}\n]\n```"

    def spelled_point(self, spec: PromptSpec, point: PointNumbers, expression: str) -> str:
        x, y, *_ = self.integers(point * 2)
        item = {"point": [y, x], "label": expression}
        return f"```json\n[\n  {json.dumps(item, ensure_ascii=False)}\n]\n```"

    def _labelled_boxes(self, spec: PromptSpec, answer: str, image_size: ImageSize) -> LabelledBoxes | None:
        if by_fractions(spec):
            return super()._labelled_boxes(spec, answer, image_size)
        found = super()._labelled_boxes(spec, answer, transposed(image_size))
        return found and tuple({"label": one["label"], "box": turned(one["box"])} for one in found)

    def _spelled_boxes(self, spec: PromptSpec, boxes: Sequence[LabelledBox], image_size: ImageSize) -> str:
        if by_fractions(spec):
            return super()._spelled_boxes(spec, boxes, image_size)
        y_first: list[LabelledBox] = [{"label": one["label"], "box": turned(one["box"])} for one in boxes]
        return super()._spelled_boxes(spec, y_first, transposed(image_size))


def turned(box: tuple[N, N, N, N]) -> tuple[N, N, N, N]:
    """A box with x and y exchanged."""
    a, b, c, d = box
    return b, a, d, c


def transposed(size: ImageSize) -> ImageSize:
    """The size of the transposed image."""
    return ImageSize(size.original[::-1], size.resized[::-1])


FAMILY = Gemma3()
