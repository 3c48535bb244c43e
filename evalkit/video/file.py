"""Videos in files."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from evalkit.types import FrameSelection, VideoInfo, VideoRef

from .container import decoder_name, regular_file
from .decode import decoded
from .index import FrameIndex, read_index
from .resize import resized
from .segments import fragment, segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT_INDICES = 64
"""Files whose index is kept in memory; an hour at 30 frames per second is 2 MB."""


@dataclass(frozen=True)
class VideoFile(VideoRef):
    """A video in a file, or a segment of it.

    Attributes:
        start, end: of the segment, in seconds; None for the beginning or end of the file.
    """

    path: str
    start: float | None = None
    end: float | None = None

    @property
    def name(self) -> str:
        """The path, with the segment as a media fragment: ``clip.mp4#t=12.5,30``."""
        return f"{self.path}{fragment(self.start, self.end)}"

    @property
    def origin(self) -> str:
        return self.path

    @property
    def decoder(self) -> str:
        return decoder_name()

    def digest(self) -> str:
        """16 hex digits of the file's SHA-256, and the segment."""
        with regular_file(self.path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16] + fragment(self.start, self.end)

    def info(self) -> VideoInfo:
        index, shown = self._frames()
        timestamps = index.timestamps[shown.start : shown.stop]
        return VideoInfo(timestamps, index.fps, index.size)

    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        import numpy as np

        index, shown = self._frames()
        places: dict[int, list[int]] = {}
        for place, frame in enumerate(selection.indices):
            if not 0 <= frame < len(shown):
                raise ValueError(f"{self.name} has {len(shown)} frames, not {frame + 1}")
            places.setdefault(shown[frame], []).append(place)
        width, height = selection.size
        found = np.empty((len(selection.indices), height, width, 3), np.uint8)
        with closing(decoded(self.path, index, sorted(places))) as frames:
            for position, pixels in frames:
                found[places[position]] = resized(pixels, selection.size)
        return found

    def _frames(self) -> tuple[FrameIndex, range]:
        """The index of the file, and the positions of the segment's frames in it."""
        status = regular_file(self.path).stat()
        index = _index(self.path, status.st_mtime_ns, status.st_size)
        return index, segment(index.timestamps, self.start, self.end, self.name)


@lru_cache(KEPT_INDICES)
def _index(path: str, modified: int, size: int) -> FrameIndex:
    """The file's index; ``modified`` and ``size`` identify its content."""
    return read_index(path)
