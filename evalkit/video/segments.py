"""Segments of videos: which frames are in one, and how it is written."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

TOLERANCE = 1e-6
"""In seconds: timestamps are fractions, and the ends of segments decimals."""


def fragment(start: float | None, end: float | None) -> str:
    """A segment as a media fragment: ``#t=12.5,30``; empty for a complete video."""
    if start is None and end is None:
        return ""
    return f"#t={start or 0:.10g}" + ("" if end is None else f",{end:.10g}")


def segment(timestamps: Sequence[float], start: float | None, end: float | None, name: str) -> range:
    """The positions of the frames from ``start`` to ``end``, both included.

    Args:
        timestamps: of all frames, ascending, in seconds.
        name: of the video, for messages.

    Raises:
        ValueError: there is none.
    """
    first = 0 if start is None else bisect_left(timestamps, start - TOLERANCE)
    after = len(timestamps) if end is None else bisect_right(timestamps, end + TOLERANCE)
    if first >= after:
        raise ValueError(f"{name}: no frame is in the segment; the last frame is at {timestamps[-1]:.2f} s")
    return range(first, after)
