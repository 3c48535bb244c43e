"""Generated videos, for checks that need no data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.types import FrameSelection, Size, VideoGeometry, VideoInfo, VideoRef, VideoSampling


@dataclass(frozen=True)
class SyntheticVideo(VideoRef):
    """A bright disc that moves across a gradient.

    Attributes:
        count: number of frames.
        fps: frames per second.
    """

    name: str
    count: int
    width: int
    height: int
    fps: float = 2.0
    start: float | None = None
    end: float | None = None
    decoder: str = "synthetic"

    def info(self) -> VideoInfo:
        return VideoInfo([at / self.fps for at in range(self.count)], self.fps, (self.width, self.height))

    def frames(self, selection: FrameSelection) -> NDArray[np.uint8]:
        width, height = selection.size
        rows, columns = np.mgrid[0:height, 0:width]
        shown = np.empty((len(selection.indices), height, width, 3), np.uint8)
        for frame, index in zip(shown, selection.indices, strict=True):
            centre = (index + 1) * width / (self.count + 1)
            disc = (rows - height / 2) ** 2 + (columns - centre) ** 2 < (min(width, height) / 4) ** 2
            frame[..., 0] = 255 * columns / width
            frame[..., 1] = 255 * rows / height
            frame[..., 2] = np.where(disc, 255, 40)
        return shown

    def digest(self) -> str:
        return self.name


@dataclass(frozen=True)
class EveryFrame(VideoSampling):
    """All frames, in a size that is given in visual tokens."""

    columns: int
    rows: int
    name: str = "every frame"

    def select(self, info: VideoInfo, geometry: VideoGeometry) -> FrameSelection:
        size: Size = self.columns * geometry.factor, self.rows * geometry.factor
        return FrameSelection(tuple(range(info.frames)), tuple(info.timestamps), size, info.fps)
