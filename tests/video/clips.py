"""Small videos whose frames show their number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]


def painted(number: int, size: Size = (64, 48)) -> NDArray[np.uint8]:
    """A frame with ``number`` (below 1,024) as ten bars, dark or bright, which compression leaves readable."""
    width, height = size
    pixels = np.full((height, width, 3), 64, np.uint8)
    for bit in range(10):
        left, right = bit * width // 10, (bit + 1) * width // 10
        pixels[:, left:right] = 235 if number >> bit & 1 else 20
    return pixels


def number_in(pixels: NDArray[np.uint8]) -> int:
    """The number in a frame, at any size."""
    height, width = pixels.shape[:2]
    middles = [(2 * bit + 1) * width // 20 for bit in range(10)]
    return sum((int(pixels[height // 2, x].mean()) > 128) << bit for bit, x in enumerate(middles))


def write_clip(
    path: Path,
    frames: int,
    *,
    rate: int = 30,
    size: Size = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    rotation: int = 0,
) -> Path:
    """Write a video of painted frames; ``times`` are those of its frames in milliseconds, for a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(painted(number, size), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
