"""Videos that are folders of frames, an image file each, as MVBench has some."""

from __future__ import annotations

import hashlib
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import first_line
from evalkit.images import PathImage
from evalkit.types import FrameSelection, VideoInfo, VideoRef

from .resize import resized
from .segments import fragment, segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class FrameFolder(VideoRef):
    """A video in a folder of frames, or a segment of it.

    Frames are in the order of their names, in which numbers count as numbers; other files are ignored.

    Attributes:
        fps: frames per second.
        start, end: of the segment, in seconds; None for the beginning or end of the video.
    """

    path: str
    fps: float
    start: float | None = None
    end: float | None = None

    @property
    def name(self) -> str:
        """The path, with the segment as a media fragment."""
        return f"{self.path}{fragment(self.start, self.end)}"

    @property
    def decoder(self) -> str:
        import PIL

        return f"Pillow {PIL.__version__}"

    def check(self) -> int | None:
        return len(self._files())

    def digest(self) -> str:
        """16 hex digits of a SHA-256 over names and contents of the frames, with the rate and the segment."""
        state = hashlib.sha256()
        for file in self._files():
            state.update(file.name.encode(errors="surrogateescape") + b"\0")
            state.update(hashlib.sha256(file.read_bytes()).digest())
        return f"{state.hexdigest()[:16]}@{self.fps:.10g}{fragment(self.start, self.end)}"

    def info(self) -> VideoInfo:
        files, times = self._shown()
        return VideoInfo(times, self.fps, PathImage(str(files[0])).size())

    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        import numpy as np

        files, _ = self._shown()
        width, height = selection.size
        found = np.empty((len(selection.indices), height, width, 3), np.uint8)
        for place, index in enumerate(selection.indices):
            if not 0 <= index < len(files):
                raise ValueError(f"{self.name} has {len(files)} frames, not {index + 1}")
            try:
                image = PathImage(str(files[index])).load()
            except (OSError, ValueError) as error:
                raise ValueError(f"{files[index]} cannot be read ({first_line(error)})") from error
            found[place] = resized(np.array(image), selection.size)
        return found

    def _files(self) -> list[Path]:
        folder = Path(self.path)
        if not folder.is_dir():
            raise FileNotFoundError(f"the folder {self.path} is missing")
        files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
        if not files:
            raise ValueError(f"{self.path} has no frames ({', '.join(SUFFIXES)})")
        return sorted(files, key=lambda file: _natural(file.name))

    def _shown(self) -> tuple[list[Path], array[float]]:
        files = self._files()
        times = array("d", (index / self.fps for index in range(len(files))))
        shown = segment(times, self.start, self.end, self.name)
        return files[shown.start : shown.stop], times[shown.start : shown.stop]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name)]
