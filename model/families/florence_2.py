"""Florence-2: an encoder and a decoder that answer a task's token, without turns and few-shot examples.

Sources: transformers' processor (``processing_florence2.py``), which has the authors' task tokens, the sentences that
it replaces them by (``<CAPTION>``: "What does the image describe?", ``<CAPTION_TO_PHRASE_GROUNDING>``: "Locate the
phrases in the caption: …") and the code for boxes: four tokens ``<loc_0>`` to ``<loc_999>``, x1, y1, x2, y2, whose
places are the centres of 1,000 bins.  The report (arXiv 2311.06242) gives scores for RefCOCO and captions, but not
which of these tokens they were measured with: that referring expressions are phrases of a caption is our choice.

Points are the centres of boxes.  The released tasks have none for questions or options; detection of named categories
is one category at a time there, and not supported, nor are other harnesses' protocols.  An image is 768 × 768 pixels
whatever its shape.  transformers loads the checkpoints of ``florence-community``; those of Microsoft have the same
``model_type``, but other names of weights, and their authors' code.
"""

from __future__ import annotations

import re

from evalkit.coordinates import Numbers
from evalkit.types import PromptSpec

from ._scaled import PrefixModel

GROUNDING = "<CAPTION_TO_PHRASE_GROUNDING>{q}"
_BOX = re.compile(r"<loc_(\d{1,3})>" * 4, re.ASCII)


class Florence2(PrefixModel):
    """The family of Florence-2 checkpoints."""

    name = "florence-2"
    model_types = ("florence2",)
    coordinates = "<loc> tokens x1 y1 x2 y2, bins of a 1000th of the image"
    special = re.compile(r"</?(?:s|pad|unk|od|obj|ground|box|bbox)>|<loc_\d{1,3}>")
    official = {"caption": "<CAPTION>", "grounding": GROUNDING, "pointing": GROUNDING}
    without_sharing = "its encoder sees image and question both ways, so the image depends on the question"

    def numbers(self, spec: PromptSpec, answer: str) -> Numbers | None:
        """The first box: the middles of its bins."""
        match = _BOX.search(answer)
        if match is None:
            return None
        x1, y1, x2, y2 = (int(place) + 0.5 for place in match.groups())
        return x1, y1, x2, y2

    def spelled(self, spec: PromptSpec, box: Numbers, expression: str) -> str:
        places = (min(max(int(value), 0), self.largest - 1) for value in box)
        return expression + "".join(f"<loc_{place}>" for place in places)


FAMILY = Florence2()
