"""Decoding chosen frames of a video file, each exactly."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from .container import opened
from .orientation import orientation_of, turned

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray


class Index(Protocol):
    """What decoding needs of an index (``evalkit.video.index.FrameIndex``)."""

    @property
    def pts(self) -> Sequence[int]: ...

    @property
    def keys(self) -> Sequence[int]: ...

    @property
    def timestamps(self) -> Sequence[float]: ...

    def key_before(self, pts: int) -> int: ...


def decoded(
    path: str, index: Index, positions: Sequence[int]
) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:  # fmt: skip
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
            if frame is None or frame.is_corrupt:
                seconds = index.timestamps[position]
                raise ValueError(f"{path}: frame {position} (at {seconds:.2f} s) cannot be decoded")
            pixels = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
            yield position, turned(pixels, orientation_of(frame))


def frames_of(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames from here on; packets that cannot be decoded are skipped."""
    for packet in packets(container, stream):
        yield from decoded_packet(packet)


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """All packets from here on; the last one is empty: it asks the decoder for what it still has.

    A transport stream may have streams that begin amid the file, which PyAV 18 does not know.  It ends with an
    ``IndexError`` then, or does not, as a byte in memory behind its list of streams has it.
    """
    ended = False
    try:
        for packet in container.demux(stream):
            ended = not packet.size
            yield packet
    except IndexError:
        if not ended:
            raise


def decoded_packet(packet: Packet[VideoStream]) -> list[VideoFrame]:
    """The frames that the decoder has once it has a packet; none if it cannot be decoded."""
    from av import FFmpegError

    try:
        return packet.decode()
    except FFmpegError:
        return []


class _Reader:
    """Reads frames by ascending timestamps."""

    def __init__(self, container: InputContainer, stream: VideoStream, index: Index) -> None:
        self._container, self._stream, self._index = container, stream, index
        self._frames = frames_of(container, stream)
        self._reached = index.pts[0] - 1  # the timestamp of the last decoded frame
        self._last: VideoFrame | None = None

    def frame(self, pts: int) -> VideoFrame | None:
        """The frame with the timestamp ``pts``; None if there is none."""
        if self._last is not None and self._last.pts == pts:
            return self._last
        key = self._index.key_before(pts)
        if key > self._reached and key > self._index.keys[0]:
            # Frames that follow a keyframe in the file and are shown before it need the keyframe before that.
            for start in (key, self._index.key_before(key - 1), self._index.keys[0]):
                self._seek(start)
                if (found := self._forward(pts)) is not None:
                    return found
            return None
        return self._forward(pts)

    def _seek(self, pts: int) -> None:
        self._container.seek(pts, stream=self._stream, backward=True)
        self._frames = frames_of(self._container, self._stream)

    def _forward(self, pts: int) -> VideoFrame | None:
        for frame in self._frames:
            if frame.pts is None:
                continue
            self._reached, self._last = frame.pts, frame
            if frame.pts >= pts:
                return frame if frame.pts == pts else None
        return None
