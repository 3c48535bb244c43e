"""Images that a run folder names: they are opened only if they are those of the run.

A run folder may come from somebody else, and its journal or its task file may name any file on this machine, which a
report or a data set would then publish.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

from evalkit.images import EncodedImage, PathImage
from evalkit.jsonl import read_file
from evalkit.types import ImageRef, VideoRef


@dataclass(frozen=True)
class RecordedImage(EncodedImage):
    """An image that has the digest in the journal; another file of its name is not shown.

    Attributes:
        recorded: the digest, as ``digest`` returns it; empty if the journal has none.
    """

    path: str
    recorded: str
    upright: bool = True

    @property
    def name(self) -> str:
        return self.path

    @property
    def key(self) -> str:
        return f"{self.path} ({self.recorded})"

    def source(self) -> io.BytesIO:
        content = read_file(Path(self.path))
        # Of the digest, only the part before the hyphen is of the content.
        if hashlib.sha256(content).hexdigest()[:16] != self.recorded.partition("-")[0]:
            raise OSError("the file is not the image of the run; if it is yours, say with --data where the data is")
        return io.BytesIO(content)


def recorded_image(name: object, digest: str | None) -> RecordedImage | None:
    """The image that a journal names; None if there is no such file, or no digest."""
    if not isinstance(name, str) or "\0" in name or digest is None or not os.path.isfile(name):  # noqa: PTH113
        return None
    return RecordedImage(name, digest)


def guarded(image: ImageRef, digest: str | None, folder: Path | None) -> ImageRef:
    """The image of a sample; only with the journal's digest if it is a file outside ``folder`` (None: anywhere)."""
    if folder is None or not isinstance(image, PathImage):
        return image
    if _is_inside(image.path, folder):
        return image
    return RecordedImage(image.path, digest or "", image.upright)


def is_within(video: VideoRef, folder: Path | None) -> bool:
    """Whether a sample's video may be shown: if it is a file, it is in ``folder`` (None: anywhere)."""
    if folder is None:
        return True
    path = getattr(video, "path", None)
    return path is None or _is_inside(str(path), folder)


def _is_inside(path: str, folder: Path) -> bool:
    inside = os.path.abspath(folder)  # noqa: PTH100 (links are followed: data folders have some)
    return os.path.commonpath([inside, os.path.abspath(path)]) == inside  # noqa: PTH100
