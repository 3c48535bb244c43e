"""Ranges of numbers, as options state them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The finite numbers that an option allows.

    Attributes:
        low, high: the ends, which are allowed themselves.
        above_low: whether ``low`` itself is not allowed.
    """

    low: float
    high: float = math.inf
    above_low: bool = False

    def __contains__(self, value: int | float) -> bool:
        return (value > self.low if self.above_low else value >= self.low) and value <= self.high and value != math.inf

    def __str__(self) -> str:
        """``at least 1``, ``more than 0 and at most 1``."""
        low = f"{'more than' if self.above_low else 'at least'} {self.low:g}"
        return low if self.high == math.inf else f"{low} and at most {self.high:g}"

    @property
    def notation(self) -> str:
        """As in help: ``x>=1``, ``0<x<=1``."""
        if self.high == math.inf:
            return f"x{'>' if self.above_low else '>='}{self.low:g}"
        return f"{self.low:g}{'<' if self.above_low else '<='}x<={self.high:g}"


_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)


def share_of(text: str) -> float | None:
    """The part of all that a percentage such as ``5%`` is, in (0, 1]; None if ``text`` is none."""
    found = _SHARE.fullmatch(text)
    percent = float(found[1]) if found else 0.0
    return percent / 100 if 0 < percent <= 100 else None


AT_LEAST_0, AT_LEAST_1 = Range(0), Range(1)
