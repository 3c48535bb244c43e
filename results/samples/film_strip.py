"""The frames of a video that a model saw, as one image with their times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.types import FrameSelection, ImageRef, Size, TimeSpan, VideoInput, VideoRef

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MOST = 24
"""Frames shown of a video, evenly spaced among those that the model saw."""
SIDE = 160
"""The longer side of a frame in the strip, in pixels; smaller frames stay as they are."""
GAP = 2
"""Pixels between frames."""
SHAPE = 4 / 3
"""Of a strip, approximately: width by height."""


@dataclass(frozen=True)
class FilmStrip(ImageRef):
    """Frames side by side in rows, in order.

    Attributes:
        shown: the frames in the strip, at their size in it.
        seen: how the video was shown to the model.
        recorded: the video's digest at that time; None if unknown.
    """

    video: VideoRef
    shown: FrameSelection
    seen: VideoInput
    recorded: str | None = None

    @property
    def name(self) -> str:
        """The video's name and how its frames were sampled, by which it is told from other strips of the video."""
        return f"{self.video.name} ({self.seen.sampling}, {len(self.seen.selection.indices)} frames)"

    @property
    def columns(self) -> int:
        """Frames in a row."""
        width, height = self.shown.size
        count = len(self.shown.indices)
        return max(1, min(count, round(math.sqrt(count * SHAPE * height / width))))

    @property
    def rows(self) -> int:
        return -(-len(self.shown.indices) // self.columns)

    @property
    def duration(self) -> float:
        """Of the video in seconds, by the rate of the frames that the model saw."""
        return duration_of(self.seen.selection)

    def size(self) -> Size:
        width, height = self.shown.size
        return self.columns * (width + GAP) - GAP, self.rows * (height + GAP) - GAP

    def load(self) -> PILImage:
        from PIL import Image

        width, height = self.shown.size
        strip = Image.new("RGB", self.size(), (255, 255, 255))
        for place, frame in enumerate(self.video.frames(self.shown)):
            row, column = divmod(place, self.columns)
            strip.paste(Image.fromarray(frame), (column * (width + GAP), row * (height + GAP)))
        return strip

    def digest(self) -> str:
        return self.video.digest()


def film_strip(video: VideoRef, seen: VideoInput, recorded: str | None) -> FilmStrip | None:
    """The strip of a video, whose digest was ``recorded``; None if the model saw no frame of it."""
    selection = seen.selection
    if not selection.indices or min(selection.size) < 1:
        return None
    places = _spread(len(selection.indices), MOST)
    scale = min(1.0, SIDE / max(selection.size))
    size = (max(1, round(selection.size[0] * scale)), max(1, round(selection.size[1] * scale)))
    shown = FrameSelection(
        tuple(selection.indices[place] for place in places),
        tuple(selection.timestamps[place] for place in places),
        size,
        selection.fps,
    )
    return FilmStrip(video, shown, seen, recorded)


def _spread(count: int, most: int) -> Sequence[int]:
    """At most ``most`` of ``count`` places, evenly spaced, the first and the last among them."""
    if count <= most:
        return range(count)
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def duration_of(selection: FrameSelection) -> float:
    """A video's duration in seconds, of which ``selection.fps`` frames per second were chosen."""
    last = max(selection.timestamps, default=0.0)
    return max(len(selection.indices) / selection.fps if selection.fps > 0 else 0.0, last)


def span_text(span: Sequence[float]) -> str:
    """A span of time, in seconds."""
    start, end = (f"{value:.2f}".rstrip("0").rstrip(".") for value in span)
    return f"{start} s to {end} s"


def time_bar(span: TimeSpan, duration: float, width: int = 40) -> str:
    """``span`` drawn on a line of ``width`` characters that stands for ``duration`` seconds."""
    if not duration > 0:
        return ""
    first, last = (round(min(1.0, max(0.0, time / duration)) * width) for time in span)
    filled = range(first, max(last, first + 1)) if span[0] <= span[1] else range(0)
    return "".join("█" if place in filled else "·" for place in range(width))
