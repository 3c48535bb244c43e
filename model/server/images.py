"""Images as a server is sent them: such that it sees exactly what a model in this process would see.

A file goes as it is where every reader makes the same pixels of it: a still JPEG or PNG in RGB or grey, 8 bits deep,
with nothing that some apply and others do not (a rotation in its EXIF data, transparency).  Anything else is decoded
here and goes as PNG, which loses nothing.  Nothing ever goes as a JPEG that was none.
"""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from threading import Lock
from typing import Any

from evalkit.images import open_image
from evalkit.types import ImageRef, Size

AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png"}
_ORIENTATION = 0x0112
CACHE_BYTES = 256 * 2**20


def encoded(image: ImageRef) -> tuple[str, bytes, Size]:
    """(media type, bytes, (width, height)).  Raises ``OSError`` or ``ValueError`` for an image that cannot be read."""
    content = image.content()
    if content is not None:
        with open_image(io.BytesIO(content)) as opened:
            size = opened.size
            if _plain(opened):
                opened.load()  # a damaged one fails here, with its name, as it does in this process
                return AS_THEY_ARE[str(opened.format)], content, size
    loaded = image.load()
    out = io.BytesIO()
    loaded.save(out, "PNG", compress_level=1)
    return "image/png", out.getvalue(), loaded.size


def _plain(opened: Any) -> bool:
    """Whether every reader makes the same RGB pixels of it."""
    if opened.format not in AS_THEY_ARE or opened.mode not in ("RGB", "L") or getattr(opened, "n_frames", 1) > 1:
        return False
    if "transparency" in opened.info or any("16" in str(tile[3]) for tile in opened.tile):
        return False
    try:
        return opened.getexif().get(_ORIENTATION, 1) in (0, 1)
    except Exception:  # EXIF data that cannot be read: who knows what others make of it
        return False


class Images:
    """``data:`` addresses of images; those of the last few are kept.

    Args:
        most: how many bytes of them are kept.
    """

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[str, Size]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def address(self, image: ImageRef) -> tuple[str, Size]:
        """(``data:image/png;base64,…``, (width, height)).  Raises as ``encoded`` does."""
        with self._lock:
            if image.name in self._kept:
                self._kept.move_to_end(image.name)
                return self._kept[image.name]
        media, content, size = encoded(image)
        found = f"data:{media};base64,{base64.b64encode(content).decode('ascii')}", size
        with self._lock:
            if image.name not in self._kept:
                self._bytes += len(found[0])
            self._kept[image.name] = found
            while self._bytes > self._most and len(self._kept) > 1:
                _, (old, _) = self._kept.popitem(last=False)
                self._bytes -= len(old)
        return found
