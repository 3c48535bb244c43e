"""PaliGemma and PaliGemma 2: models that go on after an image and a prefix, with neither turns nor exemplars.

Sources: the report (arXiv 2407.07726) and ``big_vision`` for the prefixes: ``caption en``, ``answer en {question}``,
``detect {thing}``; Google's page on PaliGemma's prompts (ai.google.dev/gemma/docs/paligemma) has them too.  A prefix
ends with a line break and comes after the image; both are the processor's business.  Boxes are four tokens
``<locYYYY>`` in the order y1, x1, y2, x2, of 1024 an image.

What no source words is refused: lettered questions (the fine-tuned checkpoints answer with an option's text), and other
harnesses' protocols, whose sentences mean nothing to it.  A checkpoint that was tuned for a benchmark may know another
prefix than these, which are the pretrained and the ``mix`` checkpoints'.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.errors import UserError
from evalkit.types import ImageSize, Message, PromptSpec, PromptTemplate, Sample, Shot

from ._chat import Chat, whole
from ._parsing import Numbers
from ._prompts import OFFICIAL, PROTOCOLS, render

_BOX = re.compile(r"<loc(\d{4})>\s*+" * 4, re.ASCII)


class PaliGemma(Chat):
    """The family of PaliGemma checkpoints."""

    name = "paligemma"
    model_types = ("paligemma",)
    coordinates = "<loc> tokens y1 x1 y2 x2, 1024ths of the image"
    several_images = False
    official = {"caption": "caption en", "vqa": "answer en {q}", "grounding": "detect {q}"}
    special = re.compile(r"<(?:bos|eos|pad|unk|loc\d{4}|seg\d{3})>")

    def prompt(self, spec: PromptSpec, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """The image and a prefix."""
        self.check_images(sample, shots)
        return (Message("plain", render(self.template(spec), sample)),)

    def template(self, spec: PromptSpec) -> PromptTemplate:
        if spec.protocol in PROTOCOLS and spec.protocol != OFFICIAL:
            raise UserError(
                f"{spec.protocol} does not say how {spec.task} is asked of the family {self.name}, which knows "
                "prefixes and no sentences; use --protocol official."
            )
        return super().template(spec)

    def numbers(self, spec: PromptSpec, said: str) -> Numbers | None:
        match = _BOX.search(said)
        if match is None:
            return None
        y1, x1, y2, x2 = map(float, match.groups())
        return x1, y1, x2, y2

    def span(self, spec: PromptSpec, image_size: ImageSize) -> tuple[float, float]:
        return 1024, 1024

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        x1, y1, x2, y2 = whole(box, (1023, 1023))
        return "".join(f"<loc{v:04d}>" for v in (y1, x1, y2, x2)) + f" {expression}"


FAMILY = PaliGemma()
