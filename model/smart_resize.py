"""The size to which the processors of Qwen2-VL's line resize an image.

Sides are multiples of a visual token's side, and the number of pixels is between ``min_pixels`` and ``max_pixels``
(model cards).  Equal to transformers' ``smart_resize``, with which the tests compare it.
"""

from __future__ import annotations

import math

from evalkit.types import Size

MAX_ASPECT = 200


def resize(size: Size, side: int, min_pixels: int, max_pixels: int) -> Size:
    """The size after resizing, as (width, height) in pixels; a visual token covers ``side`` × ``side`` pixels.

    Each side is rounded to the nearest multiple.  If the area is then outside ``[min_pixels, max_pixels]``, both sides
    of the *original* are scaled by one factor onto the limit, and rounded down (too large) or up (too small).

    Raises:
        ValueError: one side is more than 200 times the other; the processor refuses this.
    """
    if max(size) > MAX_ASPECT * min(size):
        raise ValueError(f"an image of {size[0]}x{size[1]} pixels is too narrow: one side is over 200 times the other")
    width, height = (round(length / side) * side for length in size)
    if width * height > max_pixels:
        shrink = math.sqrt(size[0] * size[1] / max_pixels)
        width, height = (max(side, math.floor(length / shrink / side) * side) for length in size)
    elif width * height < min_pixels:
        grow = math.sqrt(min_pixels / (size[0] * size[1]))
        width, height = (math.ceil(length * grow / side) * side for length in size)
    return width, height
