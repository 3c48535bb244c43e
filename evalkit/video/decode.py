"""Decoding chosen frames of a video file, each exactly."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, cast

from .container import opened
from .index import FrameIndex
from .orientation import orientation_of, turned

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray


def decoded(
    path: str, index: FrameIndex, positions: Sequence[int]
) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
    """The frames at ascending ``positions`` with these, as RGB (height, width, 3), turned as shown.

    Only one frame is in memory at a time.  From the keyframe before a frame, decoding goes on until its timestamp
    comes up.

    Raises:
        OSError, ValueError: a frame cannot be decoded.
    """
    with opened(path) as (container, stream):
        reader = _Reader(container, stream, index)
        for position in positions:
            frame = reader.frame(index.pts[position])
            if frame is None:
                seconds = index.timestamps[position]
                raise ValueError(f"{path}: frame {position} (at {seconds:.2f} s) cannot be decoded")
            pixels = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
            yield position, turned(pixels, orientation_of(frame))


class _Reader:
    """Reads frames by ascending timestamps."""

    def __init__(self, container: InputContainer, stream: VideoStream, index: FrameIndex) -> None:
        self._container, self._stream, self._index = container, stream, index
        self._frames = container.decode(stream)
        self._reached = index.pts[0] - 1  # the timestamp of the last decoded frame
        self._last: VideoFrame | None = None

    def frame(self, pts: int) -> VideoFrame | None:
        """The frame with the timestamp ``pts``; None if there is none."""
        if self._last is not None and self._last.pts == pts:
            return self._last
        key = self._index.key_before(pts)
        if key > self._reached and key > self._index.keys[0]:
            self._seek(key)
            if (found := self._forward(pts)) is not None:
                return found
            # Frames shown before a keyframe that they follow in the file need the one before it.
            self._seek(self._index.key_before(key - 1))
            if (found := self._forward(pts)) is not None:
                return found
            self._seek(self._index.keys[0])
        return self._forward(pts)

    def _seek(self, pts: int) -> None:
        self._container.seek(pts, stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)
        self._reached = pts - 1

    def _forward(self, pts: int) -> VideoFrame | None:
        for frame in self._frames:
            if frame.pts is None:
                continue
            self._reached, self._last = frame.pts, frame
            if frame.pts >= pts:
                return frame if frame.pts == pts else None
        return None
