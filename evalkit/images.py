"""References to images: found by name, opened when a backend needs them."""

from __future__ import annotations

import hashlib
import io
import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError, first_line
from evalkit.fingerprint import stamp_of_files
from evalkit.pixels import displayed_size, is_plain, open_image, to_rgb, treatment
from evalkit.software import digest_of_software
from evalkit.types import ImageRef, Size
from evalkit.user_cache import Remembered

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

log = logging.getLogger(__name__)

HEADER_THREADS = 8  # they read images' headers
MANY = 1000
"""The number of images from which on their headers are remembered from one command to the next."""


class EncodedImage(ImageRef):
    """An image in an encoded file; ``evalkit.pixels`` says how files are decoded.

    Attributes:
        upright: whether the orientation in the file's EXIF data is applied; False for benchmarks whose boxes are in
            the pixels as they are stored.
    """

    __slots__ = ()  # there may be a million

    upright: bool

    @abstractmethod
    def source(self) -> str | io.BytesIO:
        """The file's path, or its content.  Raises ``OSError`` if there is none."""

    def size(self) -> Size:
        with open_image(self.source()) as image:
            return displayed_size(image, upright=self.upright)

    def load(self) -> PILImage:
        with open_image(self.source()) as image:
            return to_rgb(image, upright=self.upright)

    def reduced(self, side: int) -> tuple[PILImage, Size]:
        """The image in RGB, decoded to not much more than ``side`` pixels where that is faster, and its full size.

        Raises:
            OSError, ValueError: it cannot be read.
        """
        with open_image(self.source()) as image:
            size = displayed_size(image, upright=self.upright)
            image.draft("RGB", (side, side))  # JPEG decodes at an eighth to a half, which saves most of the time
            return to_rgb(image, upright=self.upright), size

    def content(self) -> bytes:
        """The file's bytes."""
        source = self.source()
        if not isinstance(source, str):
            return bytes(source.getbuffer())
        if not Path(source).is_file() and Path(source).exists():
            raise OSError("not a regular file")
        return Path(source).read_bytes()

    def digest(self) -> str:
        """16 hex digits of the file's SHA-256, and what decoding does to it, as in ``0123456789abcdef-exif6``.

        Earlier versions ignored orientation, transparency and 16 bits: with the suffix, answers to the images that
        they decoded differently are not taken for answers to these pixels.
        """
        content = self.content()
        digest = hashlib.sha256(content).hexdigest()[:16]
        if is_plain(content):
            return digest
        try:
            with open_image(io.BytesIO(content)) as image:
                found = treatment(image, upright=self.upright)
        except (OSError, ValueError):  # corrupt
            return digest
        return f"{digest}-{found}" if found else digest


@dataclass(frozen=True)
class PathImage(EncodedImage):
    """An image in a file."""

    path: str
    upright: bool = True

    @property
    def name(self) -> str:
        return self.path

    @property
    def key(self) -> str:
        return self.path if self.upright else f"{self.path} (as stored)"

    @property
    def origin(self) -> str:
        return self.path

    def source(self) -> str:
        return self.path


@dataclass(frozen=True)
class RowImage(EncodedImage):
    """An image in a row of a data set, encoded until it is loaded.

    Attributes:
        place: its number, from 0, in a column of lists; None where a cell is an image.
    """

    name: str
    rows: Any = field(repr=False, compare=False)
    index: int
    column: str = "image"
    upright: bool = True
    place: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process: rows as references to their files, or else only this cell."""
        state = dict(self.__dict__)
        if not getattr(self.rows, "cache_files", None):
            state["rows"] = {self.index: {self.column: self.rows[self.index][self.column]}}
        return state

    def source(self) -> io.BytesIO:
        cell = self.rows[self.index][self.column]
        if self.place is not None:
            cell = cell[self.place] if cell and self.place < len(cell) else None
        content = cell if cell is None or isinstance(cell, bytes) else cell.get("bytes")
        if content is None:
            # A row can name a file anywhere on this machine, which is not the data set's to show to a model.
            named = f", only the name {cell['path']!r}" if cell and cell.get("path") else ""
            raise OSError(f"{self.name} has no image in column {self.column!r}{named}")
        return io.BytesIO(content)

    @cached_property
    def key(self) -> str:
        """A digest of its content, since each question's row repeats its image; its name if it cannot be read."""
        try:
            return f"content:{self.digest()}"
        except (OSError, ValueError):
            return self.name


@dataclass(frozen=True)
class _Header:
    size: Size
    animated: bool


def check_images(
    images: Iterable[ImageRef], where: str, *, if_missing: str = "complete the download"
) -> dict[str, Size]:
    """Check the header of every image that is a file, before anything is computed.

    Images in a data set's rows are not checked, since that would read the complete data set.  A message in the log
    says if there are animations, of which only the first frame is used.

    Args:
        where: the split, for messages.
        if_missing: what to do if a file is missing, for messages.

    Returns:
        (width, height) in pixels, by the image's path.

    Raises:
        UserError: files are missing or unreadable; the message names the first and counts them.
    """
    paths = {path: image for image in images if isinstance(path := getattr(image, "path", None), str)}
    seen = _headers(paths)
    bad = {path: found for path, found in seen.items() if isinstance(found, Exception)}
    if bad:
        first, error = next(iter(bad.items()))
        more = f" ({len(bad):,} of {len(paths):,} images are missing or unreadable)" if len(bad) > 1 else ""
        missing = isinstance(error, FileNotFoundError)
        trouble = "is missing" if missing else f"cannot be read ({first_line(error)})"
        advice = if_missing if missing else "replace or convert it"
        raise UserError(
            f"{where}: the image {first} {trouble}{more}; {advice}, or give --allow-missing to evaluate the rest."
        )
    headers = {path: found for path, found in seen.items() if isinstance(found, _Header)}
    animated = [path for path, header in headers.items() if header.animated]
    if animated:
        log.warning(
            "%s: %s of %s images have several frames or pages, of which the first is used (%s%s).",
            where, f"{len(animated):,}", f"{len(paths):,}", animated[0], ", …" if len(animated) > 1 else "",
        )  # fmt: skip
    return {path: header.size for path, header in headers.items()}


def _headers(images: Mapping[str, ImageRef]) -> dict[str, _Header | Exception]:
    """The headers of images by path, or why they cannot be read; many that are unchanged are remembered."""
    key = {}
    if len(images) >= MANY and (stamp := stamp_of_files(images)) is not None:
        keys = hashlib.sha256("\0".join(image.key for image in images.values()).encode(errors="surrogatepass"))
        key = {"files": stamp, "images": keys.hexdigest(), "software": digest_of_software()}
        if (known := Remembered("headers").get(key)) is not None:
            headers = (_Header((width, height), bool(animated)) for width, height, animated in known)
            return dict(zip(images, headers, strict=True))
    with ThreadPoolExecutor(HEADER_THREADS) as pool:  # mostly waiting for network drives
        found = dict(zip(images, pool.map(_header, images.values()), strict=True))
    good = [header for header in found.values() if isinstance(header, _Header)]
    if key and len(good) == len(found) and stamp_of_files(images) == key["files"]:
        Remembered("headers").put(key, [(*header.size, int(header.animated)) for header in good])
    return found


def _header(image: ImageRef) -> _Header | Exception:
    try:
        if not isinstance(image, EncodedImage):
            return _Header(image.size(), animated=False)
        with open_image(image.source()) as opened:
            # MPO is a JPEG with another photo behind it: a preview, or the other eye's.
            animated = bool(getattr(opened, "is_animated", False)) and opened.format != "MPO"
            return _Header(displayed_size(opened, upright=image.upright), animated)
    except (OSError, ValueError) as error:
        return error
