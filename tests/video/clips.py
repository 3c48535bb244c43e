"""Small videos whose frames show their number, made with PyAV."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise
Size = tuple[int, int]


def painted(number: int, size: Size = (64, 48)) -> NDArray[np.uint8]:
    """A frame with ``number`` (below 1,024) as ten bars, dark or bright, which compression leaves readable."""
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    for bit in range(10):
        left, right = bit * width // 10, (bit + 1) * width // 10
        pixels[:, left:right] = 235 if number >> bit & 1 else 20
    return pixels


def number_in(pixels: NDArray[np.uint8]) -> int:
    """The number in a frame, at any size."""
    height, width = pixels.shape[:2]
    middles = [(2 * bit + 1) * width // 20 for bit in range(10)]
    return sum((int(pixels[height // 2, x].mean()) > 128) << bit for bit, x in enumerate(middles))


def write_clip(
    path: Path,
    frames: int,
    *,
    rate: int = 30,
    size: Size = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    times: Sequence[int] | None = None,
    rotation: int = 0,
) -> Path:
    """Write a video of painted frames; ``times`` are those of its frames in milliseconds, for a variable rate."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(painted(number, size), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut_without_encoding(source: Path, path: Path, start: int) -> Path:
    """Copy a clip from its frame ``start``: what it needs from before stays in the file, and an edit list hides it."""
    with av.open(str(source)) as before, av.open(str(path), "w") as container:
        stream = before.streams.video[0]
        copy = container.add_stream_from_template(stream)
        offset = round(Fraction(start) / (stream.average_rate or 1) / (stream.time_base or 1))
        before.seek(offset, stream=stream)
        for packet in before.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                packet.stream = copy
                container.mux(packet)
    return path


def write_audio(path: Path, seconds: int = 1) -> Path:
    """Write a file of sound alone."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16_000)
        for number in range(seconds * 16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, number * 1000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


VARIABLE = [number * 40 + (number % 7) * 3 + (number // 20) * 500 for number in range(100)]
"""Times of frames, in milliseconds: uneven, with a pause after each 20."""

CLIPS: Mapping[str, tuple[int, Callable[[Path], Path]]] = {
    "constant.mp4": (60, lambda path: write_clip(path, 60)),
    "b-frames.mp4": (300, lambda path: write_clip(path, 300, options={"bf": "3", "g": "250"})),
    "pyramid.mkv": (300, lambda path: write_clip(path, 300, options={"bf": "5", "g": "40", "x264-params": "b-pyramid=2"})),
    "open-gop.mp4": (200, lambda path: write_clip(path, 200, options={"bf": "3", "g": "25", "x264-params": "open-gop=1"})),
    "hevc.mp4": (120, lambda path: write_clip(path, 120, codec="libx265", options={"x265-params": "keyint=30:log-level=0"})),
    "variable.mp4": (100, lambda path: write_clip(path, 100, times=VARIABLE, options={"bf": "2", "g": "30"})),
    "variable.mkv": (100, lambda path: write_clip(path, 100, times=VARIABLE, options={"bf": "2", "g": "30"})),
    "vp9.webm": (90, lambda path: write_clip(path, 90, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})),
    "vp8.webm": (90, lambda path: write_clip(path, 90, codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"})),
    "av1.mp4": (60, lambda path: write_clip(path, 60, size=(128, 96), codec="libsvtav1", options={"preset": "12"})),
    "gif.gif": (50, lambda path: write_clip(path, 50, rate=25, codec="gif", pixel_format="rgb8")),
    "mpeg4.avi": (75, lambda path: write_clip(path, 75, rate=25, codec="mpeg4", options={"g": "50"})),
    "b-frames.avi": (75, lambda path: write_clip(path, 75, rate=25, codec="mpeg4", options={"g": "50", "bf": "2"})),
    "mpeg2.ts": (75, lambda path: write_clip(path, 75, rate=25, codec="mpeg2video", options={"bf": "2"})),
    "h264.ts": (75, lambda path: write_clip(path, 75, rate=25, options={"bf": "3"})),
    "mjpeg.mov": (30, lambda path: write_clip(path, 30, codec="mjpeg", pixel_format="yuvj420p")),
    "ten-bit.mkv": (40, lambda path: write_clip(path, 40, pixel_format="yuv420p10le")),
}  # fmt: skip
"""Clips by name, with the number of their frames and what writes them."""
