"""Videos in files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.fingerprint import of_file, of_files
from evalkit.types import FrameSelection, Size, VideoInfo, VideoRef

from .cache import entry_key, frame_cache
from .container import decoder_name, opened, regular_file
from .decode import decoded
from .index import FrameIndex, read_index
from .resize import resized
from .segments import fragment, segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LARGE = 64 * 2**20
"""Files from this size, in bytes, have their digests remembered on disk."""
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
        return file_digest(self.path)[:16] + fragment(self.start, self.end)

    def check(self) -> int | None:
        with opened(self.path) as (_, stream):
            return stream.frames

    def info(self) -> VideoInfo:
        index, shown = self._frames()
        timestamps = index.timestamps[shown.start : shown.stop]
        return VideoInfo(timestamps, index.fps, index.size)

    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        index, shown = self._frames()
        wrong = [frame for frame in selection.indices if not 0 <= frame < len(shown)]
        if wrong:
            raise ValueError(f"{self.name} has {len(shown)} frames, not {wrong[0] + 1}")
        return self._cached(index, [shown[frame] for frame in selection.indices], selection.size)

    def _cached(self, index: FrameIndex, positions: Sequence[int], size: Size) -> NDArray[np.uint8]:
        """The frames at ``positions`` in the file, from the cache if they are there."""
        cache = frame_cache()
        if cache is None:
            return self._decoded(index, positions, size)
        key = entry_key(file_digest(self.path), positions, size, self.decoder)
        found = cache.get(key, (len(positions), size[1], size[0], 3))
        if found is None:
            found = self._decoded(index, positions, size)
            cache.put(key, found)
        return found

    def _decoded(self, index: FrameIndex, positions: Sequence[int], size: Size) -> NDArray[np.uint8]:
        import numpy as np

        places: dict[int, list[int]] = {}
        for place, position in enumerate(positions):
            places.setdefault(position, []).append(place)
        found = np.empty((len(positions), size[1], size[0], 3), np.uint8)
        with closing(decoded(self.path, index, sorted(places))) as frames:
            for position, pixels in frames:
                found[places[position]] = resized(pixels, size)
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


def file_digest(path: str) -> str:
    """The SHA-256 of a video file, in hex.  Raises ``OSError``."""
    status = regular_file(path).stat()
    return _digest(path, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


@lru_cache(4096)
def _digest(path: str, modified: int, changed: int, size: int) -> str:
    return of_files([Path(path)])[0] if size >= LARGE else of_file(Path(path))
