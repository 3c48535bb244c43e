"""Kosmos-2: a model that continues an image and a prefix, without turns and few-shot examples.

Sources: the authors' evaluation, microsoft/unilm (``kosmos-2/evaluation``): ``<grounding><phrase>…</phrase>`` for
referring expressions (``refcoco/cook_data.py``), ``Question: … Answer:`` for questions (``seed-bench/
cook_image_data.py``, where the options' texts are then ranked).  A box is two tokens after the phrase, the cells of
its corners on a grid of 32 × 32: their centres are the corners, or their outer edges where both are in one row or
column, as in the authors' ``decode_string.py``, which transformers has, too (``patch_index_to_coordinate``).  Captions
continue ``An image of``, the prompt of the model card with ``<grounding>``; that the authors evaluate captions so could
not be verified.

Points are the centres of boxes.  Multiple choice by letters, detection and other harnesses' protocols are not
supported: there are no prefixes for them.  Of several boxes the first is taken.  An image is 224 × 224 pixels, and 64
tokens, whatever its shape.  Kosmos-2.5 is another model.
"""

from __future__ import annotations

import math
import re

from evalkit.coordinates import Numbers
from evalkit.types import PromptSpec

from ._scaled import PrefixModel

SIDE = 32
GROUNDING = "<grounding><phrase>{q}</phrase>"
NAME = re.compile(r"kosmos-?2(?![.\d])", re.IGNORECASE)
_BOX = re.compile(r"<patch_index_(\d{4})>\s*+<patch_index_(\d{4})>", re.ASCII)


class Kosmos2(PrefixModel):
    """The family of Kosmos-2 checkpoints."""

    name = "kosmos-2"
    model_types = ("kosmos-2",)
    coordinates = "two <patch_index> tokens, cells of a grid of 32 × 32"
    largest = SIDE
    special = re.compile(
        r"</?(?:s|pad|unk|phrase|object|image|grounding|chunk|line|doc)>|<patch_index_\d{4}>|"
        r"</delimiter_of_multi_objects/>"
    )
    official = {
        "caption": "An image of",
        "vqa": "Question: {q} Answer:",
        "grounding": GROUNDING,
        "pointing": GROUNDING,
    }
    without_sharing = "its processor puts the image in the prompt and marks its places, so the two come together only"

    def matches_name(self, name: str) -> bool:
        return NAME.search(name) is not None

    def numbers(self, spec: PromptSpec, answer: str) -> Numbers | None:
        """The first box, in cells."""
        match = _BOX.search(answer)
        if match is None:
            return None
        (y1, x1), (y2, x2) = (divmod(int(cell), SIDE) for cell in match.groups())
        if max(y1, y2) >= SIDE:
            return None
        if x1 == x2 or y1 == y2:
            return x1, y1, x2 + 1, y2 + 1
        return x1 + 0.5, y1 + 0.5, x2 + 0.5, y2 + 0.5

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        x1, y1 = (min(max(math.floor(value), 0), SIDE - 1) for value in box[:2])
        x2, y2 = (min(max(math.ceil(value) - 1, 0), SIDE - 1) for value in box[2:])
        return f"<object><patch_index_{y1 * SIDE + x1:04d}><patch_index_{y2 * SIDE + x2:04d}></object>"


FAMILY = Kosmos2()
