"""PaliGemma and PaliGemma 2: models that continue an image and a prefix, without turns and few-shot examples.

Sources: the report (arXiv 2407.07726) and google-research/big_vision (commit 0127fb6) for the prefixes: ``caption
en``, ``answer en {question}``, ``detect {thing}``; Google's page on PaliGemma's prompts
(ai.google.dev/gemma/docs/paligemma) has them, too.  The processor puts the image before the prefix and a line break
after it.  Boxes are four tokens ``<locYYYY>`` in the order y1, x1, y2, x2, in 1023rds of the image: that code writes
``round(1023 * y)`` (``pp/proj/paligemma/segmentation.py``) and divides by 1023
(``evaluators/proj/paligemma/transfers/segmentation.py``).

Points are the centres of detected things.  Prompts without a source are not supported: multiple choice (the
fine-tuned checkpoints answer with an option's text), and other harnesses' protocols, whose sentences the models were
not trained on.  Prefixes are those of the pretrained and ``mix`` checkpoints; a checkpoint that was fine-tuned for a
benchmark may need another.
"""

from __future__ import annotations

import re

from evalkit.coordinates import Numbers
from evalkit.types import PromptSpec

from ._scaled import PrefixModel

_BOX = re.compile(r"<loc(\d{4})>\s*+" * 4, re.ASCII)


class PaliGemma(PrefixModel):
    """The family of PaliGemma checkpoints."""

    name = "paligemma"
    model_types = ("paligemma",)
    coordinates = "<loc> tokens y1 x1 y2 x2, 1023rds of the image"
    largest = 1023
    without_sharing = "image and prefix see each other both ways, so the image depends on the question"
    official = {"caption": "caption en", "vqa": "answer en {q}", "grounding": "detect {q}", "pointing": "detect {q}"}
    special = re.compile(r"<(?:bos|eos|pad|unk|loc\d{4}|seg\d{3})>")

    def numbers(self, spec: PromptSpec, answer: str) -> Numbers | None:
        match = _BOX.search(answer)
        if match is None:
            return None
        y1, x1, y2, x2 = map(float, match.groups())
        return x1, y1, x2, y2

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        x1, y1, x2, y2 = self.integers(box)
        return "".join(f"<loc{v:04d}>" for v in (y1, x1, y2, x2)) + f" {expression}"


FAMILY = PaliGemma()
