"""References to images: found by name, opened when a backend needs them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.errors import UserError
from evalkit.fingerprint import of_file
from evalkit.types import ImageRef, Size

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


HEADER_THREADS = 8  # they read images' headers


@contextmanager
def open_image(source: Any) -> Iterator[PILImage]:
    """Open an image.  Raises ``OSError`` for any damage."""
    from PIL import Image

    try:
        with Image.open(source) as image:
            yield image
    except OSError:
        raise
    except Exception as error:  # corrupt images raise nearly anything: SyntaxError, struct.error, zlib.error, …
        raise OSError(f"a corrupt image, or too large ({first_line(error)})") from error


@dataclass(frozen=True)
class PathImage(ImageRef):
    """An image in a file."""

    path: str

    @property
    def name(self) -> str:
        return self.path

    def size(self) -> Size:
        with open_image(self.path) as image:
            return image.size

    def load(self) -> PILImage:
        with open_image(self.path) as image:
            return image.convert("RGB")

    def content(self) -> bytes:
        """The file's bytes."""
        return Path(self.path).read_bytes()

    def digest(self) -> str:
        return of_file(Path(self.path))[:16]


@dataclass(frozen=True)
class RowImage(ImageRef):
    """An image in a row of a data set, encoded until it is loaded."""

    name: str
    rows: Any = field(repr=False, compare=False)
    index: int
    column: str = "image"

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process: rows as references to their files, or else only this cell."""
        state = dict(self.__dict__)
        if not getattr(self.rows, "cache_files", None):
            state["rows"] = {self.index: {self.column: self.rows[self.index][self.column]}}
        return state

    def _source(self) -> Any:
        cell = self.rows[self.index][self.column]
        if cell is None or (cell.get("bytes") is None and not cell.get("path")):
            raise OSError(f"{self.name} has no image in column {self.column!r}")
        return io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else cell["path"]

    @cached_property
    def key(self) -> str:
        """A digest of its content, since each question's row repeats its image; its name if it cannot be read."""
        try:
            return f"content:{self.digest()}"
        except (OSError, ValueError):
            return self.name

    def size(self) -> Size:
        with open_image(self._source()) as image:
            return image.size

    def load(self) -> PILImage:
        with open_image(self._source()) as image:
            return image.convert("RGB")

    def content(self) -> bytes:
        """The file's bytes."""
        source = self._source()
        return Path(source).read_bytes() if isinstance(source, str) else bytes(source.getbuffer())

    def digest(self) -> str:
        source = self._source()
        if isinstance(source, str):
            return of_file(Path(source))[:16]
        return hashlib.sha256(source.getbuffer()).hexdigest()[:16]


def check_images(images: Iterable[ImageRef], where: str) -> dict[str, Size]:
    """Check the header of every image that is a file, before anything is computed.

    Images in a data set's rows are not checked, since that would read the complete data set.

    Returns:
        (width, height) in pixels, by the image's path.

    Raises:
        UserError: files are missing or unreadable; the message names the first and counts them.
    """
    paths = {path: image for image in images if isinstance(path := getattr(image, "path", None), str)}
    with ThreadPoolExecutor(HEADER_THREADS) as pool:  # mostly waiting for network drives
        seen = dict(zip(paths, pool.map(_size_or_trouble, paths.values()), strict=True))
    bad = {path: trouble for path, trouble in seen.items() if isinstance(trouble, str)}
    if bad:
        first, trouble = next(iter(bad.items()))
        more = f" ({len(bad):,} of {len(paths):,} images are missing or unreadable)" if len(bad) > 1 else ""
        raise UserError(
            f"{where}: the image {first} {trouble}{more}; complete the download, "
            "or give --allow-missing to evaluate the rest."
        )
    return {path: size for path, size in seen.items() if not isinstance(size, str)}


def _size_or_trouble(image: ImageRef) -> Size | str:
    try:
        return image.size()
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be read as an image ({first_line(error)})"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its type."""
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
