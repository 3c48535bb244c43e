"""LLaVA-OneVision and LLaVA-OneVision 1.5: prompts and answer parsing.

Sources: the report (arXiv 2408.03326) and the authors' evaluation, which is lmms-eval (EvolvingLMMs-Lab/lmms-eval,
commit 75571cf): LLaVA-1.5's prompts for captions, questions and options, and for boxes the sentence of its RefCOCO
tasks, which states fractions of the image.  The prompts for points, detection and events in videos are ours.

An image is cut into tiles of 384 × 384 pixels (anyres, up to 36) only if it is the only one of its prompt, few-shot
examples included: prompts with several images are answered without prefix sharing.  Frames of videos are given as
images.  Version 1.5 has no model in transformers, and is for servers.
"""

from __future__ import annotations

from ._fractions import FractionChat

GROUNDING = (
    "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). "
    "All values are floating point numbers bounded between 0 and 1. Please provide the bounding box coordinate of the "
    "region this sentence describes: {q}"
)


class LlavaOneVision(FractionChat):
    """The family of LLaVA-OneVision checkpoints."""

    name = "llava-onevision"
    model_types = ("llava_onevision", "llavaonevision1_5")
    official = {**FractionChat.official, "grounding": GROUNDING}


FAMILY = LlavaOneVision()
