"""To what size frames are resized, as two libraries compute it: (width, height) that an encoder can cut into tokens."""

from __future__ import annotations

import math

from evalkit.types import Size

MAX_RATIO = 200
"""Of the sides; the libraries refuse longer frames."""


def frame_size(size: Size, factor: int, min_pixels: float, max_pixels: float) -> Size:
    """``smart_resize`` of qwen-vl-utils: sides are multiples of ``factor``, the frame is within the limits.

    Raises:
        ValueError: a side is more than ``MAX_RATIO`` times the other.
    """
    check_ratio(size)
    width, height = (max(factor, round(side / factor) * factor) for side in size)
    if width * height > max_pixels:
        scale = math.sqrt(size[0] * size[1] / max_pixels)
        width, height = (max(factor, math.floor(side / scale / factor) * factor) for side in size)
    elif width * height < min_pixels:
        scale = math.sqrt(min_pixels / (size[0] * size[1]))
        width, height = (math.ceil(side * scale / factor) * factor for side in size)
    return width, height


def transformers_frame_size(size: Size, factor: int, min_pixels: float, max_pixels: float) -> Size:
    """The same of transformers' ``Qwen2VLVideoProcessor``: a side may be rounded to 0 before limits are compared."""
    check_ratio(size)
    width, height = (round(side / factor) * factor for side in size)
    return _limited(size, (width, height), 1, 1, factor, min_pixels, max_pixels)


def transformers_video_size(
    size: Size, frames: int, together: int, factor: int, min_pixels: float, max_pixels: float
) -> Size:
    """The same of transformers' ``Qwen3VLVideoProcessor``, whose limits are of all frames together.

    Args:
        together: the number of consecutive frames that are encoded together.
    """
    width, height = size
    if min(size) < factor:
        scale = max(factor / height, factor / width)
        width, height = int(width * scale), int(height * scale)
    check_ratio((width, height))
    rounded = round(width / factor) * factor, round(height / factor) * factor
    padded = round(frames / together) * together
    return _limited((width, height), rounded, padded, frames, factor, min_pixels, max_pixels)


def _limited(
    size: Size, rounded: Size, padded: int, frames: int, factor: int, min_pixels: float, max_pixels: float
) -> Size:
    pixels = frames * size[0] * size[1]
    width, height = rounded
    if padded * width * height > max_pixels:
        scale = math.sqrt(pixels / max_pixels)
        width, height = (max(factor, math.floor(side / scale / factor) * factor) for side in size)
    elif padded * width * height < min_pixels:
        scale = math.sqrt(min_pixels / pixels)
        width, height = (math.ceil(side * scale / factor) * factor for side in size)
    return width, height


def check_ratio(size: Size) -> None:
    """Raise ``ValueError`` for frames that no rule resizes."""
    if min(size) <= 0 or max(size) / min(size) > MAX_RATIO:
        raise ValueError(f"frames of {size[0]}x{size[1]} pixels: one side is over {MAX_RATIO} times the other")
