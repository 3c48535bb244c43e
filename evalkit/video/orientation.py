"""How frames are turned before they are shown, as their display matrix says; PyAV does not apply it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from evalkit.types import Size

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

Orientation = tuple[int, int, int, int]
"""(a, b, c, d) of -1, 0 or 1: a pixel at (x, y) is shown at (a x + c y, b x + d y), y down."""
UPRIGHT: Orientation = (1, 0, 0, 1)


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation in a frame's side data; angles are rounded to right ones, as other readers do."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    try:
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    except struct.error:
        return UPRIGHT
    upright = abs(a * d) >= abs(b * c)
    found = (_sign(a), 0, 0, _sign(d)) if upright else (0, _sign(b), _sign(c), 0)
    return UPRIGHT if found.count(0) != 2 else found


def displayed_size(size: Size, orientation: Orientation) -> Size:
    """(width, height) as shown."""
    return size if orientation[0] else (size[1], size[0])


def turned(pixels: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """Pixels (height, width, channels) as shown; a view."""
    a, b, c, d = orientation
    if a:  # rows stay rows
        return pixels[:: d or 1, ::a]
    turned = pixels.swapaxes(0, 1)  # now x is what was y
    return turned[::b, ::c]


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
