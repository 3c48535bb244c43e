"""The base of families whose authors state no convention for boxes: prompts that state one, fractions of the image.

The prompts are ours.  They state a format and a range, and answers are parsed as such: a model that answers in pixels
is wrong here, and needs its own family.  VLMEvalKit's grounding prompt states no coordinates, so it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.coordinates import Numbers, PointNumbers
from evalkit.errors import UserError
from evalkit.reasoning import split
from evalkit.types import ImageSize, Part, Prediction, PromptSpec, PromptTemplate

from ._chat import OTHER_SPECIAL, Chat, fractions
from ._prompts import LLAVA, OFFICIAL, VLMEVALKIT

GROUNDING = (
    "Locate {q} in the image. Answer with its bounding box only, as [x1, y1, x2, y2]: its left, top, right and bottom "
    "edges as fractions of the image's width and height, numbers between 0 and 1."
)

POINTING = (
    "Point to the place in the image that fits this instruction: {q}\nAnswer with one point only, as [x, y]: fractions "
    "of the image's width and height, numbers between 0 and 1."
)

DETECTION = (
    "Find every instance of these categories in the image: {q}\nAnswer with a JSON list only, with one object for "
    'each instance: {{"bbox_2d": [x1, y1, x2, y2], "label": "its category"}}. The numbers are the left, top, right and '
    "bottom edges of its bounding box as fractions of the image's width and height, between 0 and 1."
)


class FractionChat(Chat):
    """A family of chat models that are asked for fractions of the image; other prompts are LLaVA's.

    Attributes:
        final_mark: what comes before the final answer where ``by_task`` has a prompt that asks for steps.
    """

    coordinates = "fractions of the image, as the prompt states"
    special = OTHER_SPECIAL
    final_mark = ""
    official = {**LLAVA, "grounding": GROUNDING, "pointing": POINTING, "detection": DETECTION}

    def template(self, spec: PromptSpec) -> PromptTemplate:
        found = super().template(spec)
        if spec.protocol == VLMEVALKIT and spec.kind == "grounding":
            raise UserError(
                f"vlmevalkit's prompt for {spec.task} states no coordinates, and the family {self.name} has no "
                "convention for them; use --protocol official or lmms-eval."
            )
        return found

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return 1, 1

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        return fractions(box)

    def spelled_point(self, spec: PromptSpec, point: PointNumbers, expression: str) -> str:
        return fractions(point)

    def parse(
        self, spec: PromptSpec, text: str, image_sizes: Sequence[ImageSize], options: Sequence[Part] = ()
    ) -> Prediction:
        """As of any chat model; what follows the last ``final_mark`` where the family's own prompt asks for it."""
        if self.final_mark and spec.protocol == OFFICIAL and spec.task in self.by_task:
            parts = split(text, self.reasoning)
            if parts.complete and self.final_mark in parts.answer:
                text = parts.answer.rpartition(self.final_mark)[2]
        return super().parse(spec, text, image_sizes, options)
