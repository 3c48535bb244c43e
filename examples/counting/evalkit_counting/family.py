"""Qwen2.5-VL for questions about numbers: Qwen2.5-VL's prompts, with the number parsed from the answer.

``There are 3 circles.`` is read as ``3``.  An answer without a number is unparsed: it counts as wrong, and is counted.
Your own family need not derive from another one; ``evalkit.interfaces.Family`` lists what it must have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.model.families.qwen2_5_vl import Qwen25VL
from evalkit.types import ImageSize, Part, Prediction, PromptSpec

from .metric import WORDS

NUMBER = re.compile(rf"\b(?:\d+|{'|'.join(WORDS)})\b", re.ASCII | re.IGNORECASE)


class Qwen25VLNumbers(Qwen25VL):
    """A family for ``--family``: no checkpoint's config names it."""

    name = "qwen2.5-vl-numbers"
    model_types = ()

    def parse(
        self, spec: PromptSpec, text: str, image_sizes: Sequence[ImageSize], options: Sequence[Part] = ()
    ) -> Prediction:
        prediction = super().parse(spec, text, image_sizes, options)
        if spec.kind != "vqa" or not isinstance(prediction.value, str):
            return prediction
        found = NUMBER.search(prediction.value)
        return Prediction(found[0] if found else None)


FAMILY = Qwen25VLNumbers()
