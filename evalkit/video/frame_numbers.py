"""Which frames of a video are chosen, counted from 0, as libraries compute it."""

from __future__ import annotations

import math

from evalkit.types import VideoInfo


def counted(info: VideoInfo, together: int, fps: float, least: int, most: int) -> int:
    """How many frames make ``fps`` per second: a multiple of ``together``, rounded down; as in both libraries."""
    most = min(most, info.frames) // together * together
    number = min(max(info.frames / info.fps * fps, least), most, info.frames)
    return math.floor(number / together) * together


def spread(total: int, number: int) -> tuple[int, ...]:
    """``number`` of ``total`` frames at equal distances, the first and the last included; halves to even.

    Computed in integers, without rounding errors.
    """
    if number == 1:
        return (0,)
    return tuple(_divided(place * (total - 1), number - 1) for place in range(number))


def spread_float64(total: int, number: int) -> tuple[int, ...]:
    """The same with the rounding errors of ``numpy.linspace`` (transformers)."""
    import numpy as np

    return tuple(int(value) for value in np.linspace(0, total - 1, number).round())


def spread_float32(total: int, number: int) -> tuple[int, ...]:
    """The same with those of ``torch.linspace``, which computes in single precision (qwen-vl-utils)."""
    import numpy as np

    if number == 1:
        return (0,)
    # The step is in single precision; products are exact, and results are rounded once (fused multiply-add).
    step = np.float64(np.float32(total - 1) / np.float32(number - 1))
    places = np.arange(number)
    found = np.where(places < number // 2, step * places, np.float32(total - 1) - step * (number - 1 - places))
    return tuple(int(value) for value in np.rint(found.astype(np.float32)))


def strided(total: int, number: int) -> tuple[int, ...]:
    """``number`` of ``total`` frames from the first, each ``total / number`` on, rounded down (transformers).

    As ``torch.arange(0, total, total / number).int()``: rounding errors may add one.
    """
    stride = total / number
    return tuple(int(place * stride) for place in range(math.ceil(total / stride)))


def _divided(numerator: int, denominator: int) -> int:
    """The nearest integer to the fraction; halves to even."""
    quotient, rest = divmod(numerator, denominator)
    up = 2 * rest > denominator or (2 * rest == denominator and quotient % 2)
    return quotient + bool(up)
