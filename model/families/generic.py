"""Any chat model on the hub: prompts that need no special training.

The prompts are LLaVA-1.5's (arXiv 2310.03744), which lmms-eval has too; those for boxes and points are ours.  They
state a format and a range, fractions of the image, and answers are parsed as such: a model that answers in pixels is
wrong here, and needs its own family.  VLMEvalKit's grounding prompt states no coordinates, so it is refused for this
family.
"""

from __future__ import annotations

import re

from evalkit.coordinates import Numbers, PointNumbers
from evalkit.errors import UserError
from evalkit.types import ImageSize, PromptSpec, PromptTemplate

from ._chat import Chat, fractions
from ._prompts import CAPTION, LETTER, SHORT, TEMPORAL, VLMEVALKIT

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


class Generic(Chat):
    """The family of checkpoints that no other family claims."""

    name = "generic"
    coordinates = "fractions of the image, as the prompt states"
    official = {
        "caption": CAPTION,
        "vqa": SHORT,
        "choice": LETTER,
        "grounding": GROUNDING,
        "pointing": POINTING,
        "detection": DETECTION,
        "temporal_grounding": TEMPORAL,
    }
    special = re.compile(r"<\|[a-z0-9_]++\|>|</?s>|<(?:bos|eos|pad|unk|end_of_turn|end_of_utterance)>")

    def matches_name(self, name: str) -> bool:
        return False

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


FAMILY = Generic()
