"""Qwen2.5-VL: how it is asked, and how its answers are read.

Sources: the Qwen2.5-VL report (arXiv 2502.13923) for boxes; prompts as the Qwen2-VL line of models is evaluated in
VLMEvalKit, and the grounding instruction of the model's own cookbook.  No official caption prompt exists from Qwen2-VL
on: ``Describe this image in one sentence.`` is ours.

Coordinates are *absolute pixels of the resized image the encoder saw* (``image_grid_thw`` × 14); they leave this file
as pixels of the original image.  Where the encoder's sizes were not recorded (``evalkit score``), ``resized`` computes
them by the rule of the released processor (model card: sides are multiples of 28, the number of pixels lies between
``min_pixels`` and ``max_pixels``); the default limits are those of its ``preprocessor_config.json``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from evalkit.types import Ask, Box, Decoding, Frame, Message, Picture, Reading, Sample, Shot, Size, Text

VQA = "{q}\nPlease try to answer the question with short words or phrases if possible."
CHOICE = "Question: {q}\nOptions:\n{options}\nPlease select the correct answer from the options above."
CAPTION = "Describe this image in one sentence."
GROUNDING = "Locate {q} in this image and output the bbox coordinates in JSON format."

# One fenced JSON object with a label that repeats the expression: 28 tokens, Qwen-VL's limit, would cut it in half.
GROUNDING_TOKENS = 128

# A visual token is 28 × 28 pixels (two by two patches of 14); a picture has 4 to 16,384 of them.
SIDE = 28
MIN_PIXELS = 4 * SIDE**2
MAX_PIXELS = 16_384 * SIDE**2
MAX_ASPECT = 200

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


def resized(size: Size, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS) -> Size:
    """The size at which the encoder sees a picture of ``size``, both (width, height) in pixels.

    Each side goes to the nearest multiple of 28.  If the area is then outside ``[min_pixels, max_pixels]``, both sides
    of the *original* are scaled by one factor onto the limit, and rounded down (too large) or up (too small).

    Raises:
        ValueError: one side is more than 200 times the other, which the processor refuses.
    """
    if max(size) > MAX_ASPECT * min(size):
        raise ValueError(f"a picture of {size[0]}x{size[1]} pixels is too narrow: one side is over 200 times the other")
    width, height = (round(side / SIDE) * SIDE for side in size)
    if width * height > max_pixels:
        shrink = math.sqrt(size[0] * size[1] / max_pixels)
        width, height = (max(SIDE, math.floor(side / shrink / SIDE) * SIDE) for side in size)
    elif width * height < min_pixels:
        grow = math.sqrt(min_pixels / (size[0] * size[1]))
        width, height = (math.ceil(side * grow / SIDE) * SIDE for side in size)
    return width, height


class Qwen25VL:
    """The family of Qwen2.5-VL checkpoints."""

    name = "qwen2.5-vl"
    model_types = ("qwen2_5_vl",)
    coordinates = "absolute pixels of the resized image"
    several_images = True

    def prompt(self, ask: Ask, sample: Sample, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """One user turn: the pictures, then the question under its kind's wording."""
        kind = ask.kind
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

    def decoding(self, ask: Ask, default: Decoding) -> Decoding:
        """The task's own limit, except for boxes, which this family writes out as JSON."""
        if ask.kind == "grounding":
            return Decoding(max(default.max_new_tokens, GROUNDING_TOKENS), default.min_new_tokens)
        return default

    def frame(self, size: Size, min_pixels: int | None = None, max_pixels: int | None = None) -> Frame:
        """A picture's size and what ``resized`` makes of it; None stands for the released processor's limit."""
        least = MIN_PIXELS if min_pixels is None else min_pixels
        most = MAX_PIXELS if max_pixels is None else max_pixels
        return Frame(size, resized(size, least, most))

    def read(self, ask: Ask, text: str, frames: Sequence[Frame]) -> Reading:
        """A stripped text, an option's letter, or the first box in pixels of the original image."""
        plain = _SPECIAL.sub("", text).strip()
        if ask.kind == "grounding":
            box = first_box(plain)
            return Reading(None if box is None or not frames else to_original(box, frames[-1]))
        if ask.kind == "choice":
            match = _LETTER_FIRST.search(plain) or _LETTER_SAID.search(plain)
            return Reading(match.group(1) if match else None)
        return Reading(plain or None)

    def answer(self, ask: Ask, sample: Sample, frame: Frame) -> str:
        raise NotImplementedError

    def continuations(self, ask: Ask, sample: Sample) -> tuple[str, ...]:
        raise NotImplementedError


FAMILY = Qwen25VL()
