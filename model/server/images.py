"""Encode images so that a server decodes exactly the pixels that a model in this process would see.

A file is sent unchanged if every decoder reads the same pixels from it: a still JPEG or PNG in RGB or grey, 8 bits
deep, without anything that only some decoders apply (EXIF rotation, transparency).  Any other image is decoded here
(``evalkit.pixels``) and sent as PNG, which is lossless, without metadata, so that it is not rotated again.  No image is
ever compressed to JPEG.
"""

from __future__ import annotations

import binascii
import hashlib
import io
import secrets
from collections import OrderedDict
from threading import Lock
from typing import Any

from evalkit.pixels import check_png, open_image, orientation
from evalkit.types import ImageRef, Size

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png"}
CACHE_BYTES = 256 * 2**20
PIECE_BYTES = 3 * 2**13
"""Bytes, in threes, that are encoded at once: Python first reserves twice as many, which would leave the memory between
the cached images in fragments."""


def encode(image: ImageRef) -> tuple[str, bytes, Size]:
    """(media type, bytes, (width, height)).  Raises ``OSError`` or ``ValueError`` if the image is unreadable."""
    content = image.content()
    if content is not None:
        with open_image(io.BytesIO(content)) as opened:
            size = opened.size
            if _decodes_uniquely(opened):
                if opened.format == "PNG":
                    check_png(content)
                # A corrupt image fails here, as it would with the hf backend; of a JPEG, all data are read at an eighth
                # of its size, too.
                opened.draft(opened.mode, (1, 1))
                opened.load()
                return MEDIA_TYPES[str(opened.format)], content, size
    loaded = image.load()
    out = io.BytesIO()
    loaded.save(out, "PNG", compress_level=1)
    return "image/png", out.getvalue(), loaded.size


def _decodes_uniquely(opened: Any) -> bool:
    """Whether every decoder reads the same RGB pixels from it."""
    if opened.format not in MEDIA_TYPES or opened.mode not in ("RGB", "L") or getattr(opened, "n_frames", 1) > 1:
        return False
    if "transparency" in opened.info or any("16" in str(tile[3]) for tile in opened.tile):
        return False
    try:
        opened.getexif()
    except Exception:  # unreadable EXIF data: decoders may differ
        return False
    return orientation(opened) == 1


def _data_url(media: str, content: bytes) -> bytes:
    pieces = [f"data:{media};base64,".encode()]
    for start in range(0, len(content), PIECE_BYTES):
        pieces.append(binascii.b2a_base64(content[start : start + PIECE_BYTES], newline=False))
    return b"".join(pieces)


class ImageCache:
    """``data:`` URLs of images; the most recently used are cached.

    Args:
        max_bytes: the size of the cache.

    Attributes:
        named: whether the uuid of an image is needed with its URL.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.named = False
        self._max_bytes = max_bytes
        self._secret = secrets.token_bytes(32)
        self._uuids: dict[str, str] = {}  # of cached images
        self._cached: OrderedDict[str, tuple[bytes, Size]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def has(self, image: ImageRef) -> bool:
        """Whether an image's URL is cached; nothing is read to find out."""
        return image.origin is not None and image.key in self._cached

    def data_url(self, image: ImageRef) -> tuple[bytes, Size]:
        """(``data:image/png;base64,…``, (width, height)).  Raises as ``encode`` does."""
        with self._lock:
            if image.key in self._cached:
                self._cached.move_to_end(image.key)
                return self._cached[image.key]
        media, content, size = encode(image)
        entry = _data_url(media, content), size
        uuid = self._uuid_of(entry[0]) if self.named else ""
        with self._lock:
            if image.key not in self._cached:
                self._bytes += len(entry[0])
            self._cached[image.key] = entry
            if uuid:
                self._uuids[image.key] = uuid
            while self._bytes > self._max_bytes and len(self._cached) > 1:
                dropped, (old, _) = self._cached.popitem(last=False)
                self._bytes -= len(old)
                self._uuids.pop(dropped, None)
        return entry

    def uuid(self, image: ImageRef) -> str:
        """32 hexadecimal digits by which a server knows an image: different for any other data.  Raises as ``encode``.

        They mean nothing outside of this process.
        """
        if (known := self._uuids.get(image.key)) is not None:
            return known
        url, _ = self.data_url(image)
        found = self._uuid_of(url)
        with self._lock:
            if image.key in self._cached:
                self._uuids[image.key] = found
        return found

    def _uuid_of(self, url: bytes) -> str:
        return hashlib.blake2b(url, key=self._secret, digest_size=16).hexdigest()
