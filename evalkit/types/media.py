"""What images and videos have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Size = tuple[int, int]
"""(width, height) in pixels."""


class Media(ABC):
    """A reference to something that is not text, such as an image; loaded when needed, so that many fit in memory."""

    __slots__ = ()  # there may be a million

    if TYPE_CHECKING:  # a field or a property of the subclass

        @property
        def name(self) -> str:
            """Where it comes from (a path, or a data set's row), for messages and records."""

    @property
    def key(self) -> str:
        """Cache key: equal for references to the same content.

        Its name by default.  Data sets with a row per question repeat an image for each of its questions.
        """
        return self.name

    @property
    def origin(self) -> str | None:
        """The path of the only file on which its content depends; None if there is no such file, or it is unknown."""
        return None

    @abstractmethod
    def digest(self) -> str:
        """A digest of the content, independent of its location.  Raises ``OSError`` if it cannot be read."""


class ImageRef(Media):
    """A reference to an image."""

    __slots__ = ()  # there may be a million

    @abstractmethod
    def size(self) -> Size:
        """(width, height) in pixels, from the header alone.  Raises ``OSError`` if it cannot be read."""

    @abstractmethod
    def load(self) -> PILImage:
        """Decode it to RGB.  Raises ``OSError`` or ``ValueError`` if it cannot be read."""

    def content(self) -> bytes | None:
        """The bytes of its file; None if there is no such file.  Raises ``OSError`` if it cannot be read."""
        return None


def image_key(image: ImageRef) -> str:
    """The image's cache key: equal for references to the same content."""
    return image.key
