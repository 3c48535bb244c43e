"""Qwen2.5-VL: how it is asked, and how its answers are read.

Sources: the Qwen2.5-VL report (arXiv 2502.13923) for boxes; prompts as the Qwen2-VL line of models is evaluated in
VLMEvalKit, and the grounding instruction of the model's own cookbook.  No official caption prompt exists from Qwen2-VL
on: ``Describe this image in one sentence.`` is ours.

Coordinates are *absolute pixels of the resized image the encoder saw* (``image_grid_thw`` × 14); they leave this file
as pixels of the original image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.types import Box, Decoding, Frame, Kind, Message, Picture, Reading, Sample, Text

VQA = "{q}\nPlease try to answer the question with short words or phrases if possible."
CHOICE = "Question: {q}\nOptions:\n{options}\nPlease select the correct answer from the options above."
CAPTION = "Describe this image in one sentence."
GROUNDING = "Locate {q} in this image and output the bbox coordinates in JSON format."

# One fenced JSON object with a label that repeats the expression: 28 tokens, Qwen-VL's limit, would cut it in half.
GROUNDING_TOKENS = 128

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR = ",".join([_NUMBER] * 4)
_KEYED_BOX = re.compile(r"[\"']bbox(?:_2d)?[\"']\s*:\s*\[+" + _FOUR + r"\]")
_BARE_BOX = re.compile(r"^\s*(?:```(?:json)?)?\s*\[+" + _FOUR + r"\]+\s*(?:```)?\s*$")
_SPECIAL = re.compile(r"<\|[a-z_]+\|>")
# A letter alone or marked off; "A dog" and "I think so" are sentences.
_LETTER_FIRST = re.compile(r"^\W*([A-Z])(?:[.):,*\]]|\s*$)")
_LETTER_SAID = re.compile(r"(?i:\b(?:answer|option)\b(?: is|:)?)\W*([A-Z])(?:\W|$)")


def first_box(text: str) -> Box | None:
    """The first box of an answer as it stands there: ``bbox_2d`` or ``bbox`` in (fenced) JSON, or one bare list."""
    match = _KEYED_BOX.search(text) or _BARE_BOX.match(text)
    if match is None:
        return None
    x1, y1, x2, y2 = (float(v) for v in match.groups())
    return x1, y1, x2, y2


def to_original(box: Box, frame: Frame) -> Box:
    """A box in pixels of the resized frame, in pixels of the original image."""
    sx = frame.original[0] / frame.resized[0]
    sy = frame.original[1] / frame.resized[1]
    return box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy


class Qwen25VL:
    """The family of Qwen2.5-VL checkpoints."""

    name = "qwen2.5-vl"
    model_types = ("qwen2_5_vl",)
    coordinates = "absolute pixels of the resized image"

    def prompt(self, kind: Kind, sample: Sample) -> tuple[Message, ...]:
        """One user turn: the pictures, then the question under its kind's wording."""
        if kind == "caption":
            text = CAPTION
        elif kind == "grounding":
            text = GROUNDING.format(q=sample.text)
        elif kind == "choice":
            options = "\n".join(f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(sample.options))
            text = CHOICE.format(q=sample.text, options=options)
        else:
            text = VQA.format(q=sample.text)
        return (Message("user", (*(Picture(image) for image in sample.images), Text(text))),)

    def decoding(self, kind: Kind, default: Decoding) -> Decoding:
        """The task's own limit, except for boxes, which this family writes out as JSON."""
        if kind == "grounding":
            return Decoding(max(default.max_new_tokens, GROUNDING_TOKENS), default.min_new_tokens)
        return default

    def read(self, kind: Kind, text: str, frames: Sequence[Frame]) -> Reading:
        """A stripped text, an option's letter, or the first box in pixels of the original image."""
        plain = _SPECIAL.sub("", text).strip()
        if kind == "grounding":
            box = first_box(plain)
            return Reading(None if box is None or not frames else to_original(box, frames[-1]))
        if kind == "choice":
            match = _LETTER_FIRST.search(plain) or _LETTER_SAID.search(plain)
            return Reading(match.group(1) if match else None)
        return Reading(plain or None)


FAMILY = Qwen25VL()
