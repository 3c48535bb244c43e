"""The frames of a video file by their timestamps, from its packets."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from evalkit.types import Size

from .container import opened
from .decode import decoded_packet, packets
from .orientation import displayed_size, orientation_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class FrameIndex:
    """The frames that a player shows, in order of presentation.

    Attributes:
        pts: presentation timestamps, in units of the stream's time base.
        keys: the ascending timestamps of the frames from which decoding can start.
        timestamps: in seconds from the first frame.
        fps: the average number of frames per second, over the time until the last frame ends.
        size: (width, height) in pixels as shown.
    """

    pts: array[int]
    keys: array[int]
    timestamps: array[float]
    fps: float
    size: Size

    def key_before(self, pts: int) -> int:
        """The timestamp of the last frame from which decoding can start and reach ``pts``."""
        return self.keys[max(0, bisect_right(self.keys, pts) - 1)]


def read_index(path: str) -> FrameIndex:
    """The index of the file at ``path``; reads all packets, and decodes the first frame.

    Packets that decode to no frame shown are left out, such as those before the start of an edit list.

    Raises:
        OSError, ValueError: it cannot be read, or has no video stream or no frame.
    """
    with opened(path) as (container, stream):
        shown, first = _read(container, stream)
        time_base = stream.time_base or Fraction(1)
        rate = stream.average_rate or stream.guessed_rate
    if first is None:
        raise ValueError(f"{path} has no frame that can be decoded")
    if not shown:
        raise ValueError(f"{path} has no frames with timestamps")
    shown.sort()
    pts = array("q", (pts for pts, _, _ in shown))
    length = (max(pts + duration for pts, duration, _ in shown) - pts[0]) * time_base
    fps = float(len(pts) / length) if length > 0 and len(pts) > 1 else float(rate or 1)
    keys = array("q", (pts for pts, _, key in shown if key)) or pts[:1]
    size = displayed_size((first.width, first.height), orientation_of(first))
    return FrameIndex(pts, keys, array("d", (float((p - pts[0]) * time_base) for p in pts)), fps, size)


def _read(container: InputContainer, stream: VideoStream) -> tuple[list[tuple[int, int, bool]], VideoFrame | None]:
    """(pts, duration, whether it is a keyframe) of the packets whose frames are shown, and the first decoded frame."""
    hidden = _hidden_vp8 if stream.codec_context.name in ("vp8", "libvpx") else _never
    shown = []
    first: VideoFrame | None = None
    for packet in packets(container, stream):
        if first is None:
            first = next(iter(decoded_packet(packet)), None)
        if packet.size and not packet.is_discard and packet.pts is not None and not hidden(packet):
            shown.append((packet.pts, packet.duration or 0, packet.is_keyframe))
    return shown, first


def _never(packet: Packet[VideoStream]) -> bool:
    return False


def _hidden_vp8(packet: Packet[VideoStream]) -> bool:
    """Whether a VP8 frame is only a reference for others (RFC 6386, section 9.1: ``show_frame``)."""
    return not memoryview(packet)[0] >> 4 & 1
