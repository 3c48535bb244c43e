"""Aya Vision: prompts and answer parsing.

Sources: the model card (CohereLabs/aya-vision-8b) and transformers' processor.  Prompts of the authors' evaluation
were not found, in the model card or elsewhere, and no convention for boxes is documented: captions, questions and
options are asked for in LLaVA's words, boxes, points, detection and events in videos in ours.

Images are cut into tiles of 364 × 364 pixels (their number is the processor's) with a small copy of the whole image
after them, and stand where the question has them.  Frames of videos are given as images.
"""

from __future__ import annotations

from ._fractions import FractionChat


class AyaVision(FractionChat):
    """The family of Aya Vision checkpoints."""

    name = "aya-vision"
    model_types = ("aya_vision",)
    without_sharing = "most layers have a sliding window"


FAMILY = AyaVision()
