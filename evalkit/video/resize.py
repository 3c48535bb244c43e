"""Resizing frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.types import Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def resized(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """RGB pixels (height, width, 3), resized to (width, height): bicubic, with antialiasing."""
    import numpy as np
    from PIL import Image

    if pixels.shape[:2] == (size[1], size[0]):
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC))
