"""Which frames of a video a model is shown, whether it is in this process or behind a server.  No torch.

Frames are chosen and resized here, once per video (``Request.video_sampling``); no processor or server samples or
resizes them again.  A *frame group* is what the encoder takes together: two consecutive frames, the last one repeated
if it is alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from evalkit.types import FrameSelection, Request, VideoGeometry, VideoInput, VideoRef, VideoSampling

REMEMBERED = 256
"""Selections that are kept, so that a video's packets are read once for all its questions."""


@dataclass(frozen=True)
class SelectedVideo:
    """A video and the frames of it that are shown.

    Attributes:
        sampling: the name of the rule that chose them.
        geometry: how the encoder cuts them.
    """

    video: VideoRef
    selection: FrameSelection
    sampling: str
    geometry: VideoGeometry

    @cached_property
    def key(self) -> str:
        """Equal for equal frames of equal content, in one process."""
        return f"{self.video.key}#{hash((self.selection.indices, self.selection.size)):x}"

    @property
    def groups(self) -> int:
        """The number of frame groups."""
        return -(-len(self.selection.indices) // self.geometry.frames)

    @property
    def rows(self) -> int:
        """Of visual tokens in a group."""
        return self.selection.size[1] // self.geometry.factor

    @property
    def columns(self) -> int:
        """Of visual tokens in a group."""
        return self.selection.size[0] // self.geometry.factor

    @property
    def tokens_per_group(self) -> int:
        """Visual tokens."""
        return self.rows * self.columns

    @property
    def seconds_per_group(self) -> float:
        """The time between two groups."""
        return self.geometry.frames / self.selection.fps

    @property
    def pixels(self) -> int:
        """Of all its frames."""
        width, height = self.selection.size
        return len(self.selection.indices) * width * height

    @property
    def times(self) -> list[float]:
        """Seconds: of each group, the mean of its first and its last frame."""
        shown, frames = self.selection.timestamps, self.geometry.frames
        starts = range(0, len(shown), frames)
        return [(shown[start] + shown[min(start + frames, len(shown)) - 1]) / 2 for start in starts]

    def load(self) -> NDArray[np.uint8]:
        """Decode the frames: (frames, height, width, 3), RGB.

        Raises:
            OSError, ValueError: it cannot be decoded, or not to what was selected.
        """
        found = self.video.frames(self.selection)
        width, height = self.selection.size
        expected = (len(self.selection.indices), height, width, 3)
        if found.shape != expected or found.dtype != np.uint8:
            raise ValueError(f"{self.video.name}: decoded to {found.shape} {found.dtype}, expected {expected} uint8")
        return found

    @property
    def input(self) -> VideoInput:
        """For the record of an answer."""
        return VideoInput(self.video.name, self.selection, self.sampling, self.video.decoder)


class VideoSelector:
    """Selects frames by the requests' rules, and remembers what it selected."""

    def __init__(self, geometry: VideoGeometry) -> None:
        self.geometry = geometry
        self._lock = Lock()
        self._selected: OrderedDict[Hashable, SelectedVideo] = OrderedDict()

    def of(self, request: Request) -> tuple[SelectedVideo, ...]:
        """The videos of a request.

        Raises:
            OSError, ValueError: one cannot be read, or the rule cannot be applied to it.
        """
        if not request.videos:
            return ()
        if request.video_sampling is None:
            raise ValueError("it has a video and no rule for the choice of frames")
        return tuple(self._one(video, request.video_sampling) for video in request.videos)

    def _one(self, video: VideoRef, sampling: VideoSampling) -> SelectedVideo:
        key = video.key, video.start, video.end, sampling.name
        with self._lock:
            if (found := self._selected.get(key)) is not None:
                self._selected.move_to_end(key)
                return found
        selection = sampling.select(video.info(), self.geometry)
        width, height = selection.size
        factor = self.geometry.factor
        if not selection.indices or width % factor or height % factor or min(width, height) < factor:
            raise ValueError(
                f"{video.name}: {sampling.name} selects {len(selection.indices)} frames of {width} × {height} pixels; "
                f"expected at least one, with sides that are multiples of {factor}"
            )
        found = SelectedVideo(video, selection, sampling.name, self.geometry)
        with self._lock:
            self._selected[key] = found
            while len(self._selected) > REMEMBERED:
                self._selected.popitem(last=False)
        return found


def frame_groups(frames: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Views of ``size`` consecutive frames each; the last frame is repeated to fill the last one."""
    for start in range(0, len(frames), size):
        group = frames[start : start + size]
        missing = size - len(group)
        yield np.concatenate([group, *[group[-1:]] * missing]) if missing else group
