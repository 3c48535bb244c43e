"""Score against number of exemplars, as a picture.  Needs matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """A score of ``series`` (a model on a split) after ``shots`` exemplars, with its 95 % interval."""

    series: str
    shots: int
    value: float
    low: float | None
    high: float | None


def draw(points: Sequence[Point], path: Path) -> None:
    """Draw one line per series with its 95 % intervals and save it to ``path`` (PNG).

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for series in dict.fromkeys(point.series for point in points):
        line = sorted((p for p in points if p.series == series), key=lambda p: p.shots)
        axes.errorbar(
            [p.shots for p in line], [p.value for p in line],
            yerr=[
                [0.0 if p.low is None else max(0.0, p.value - p.low) for p in line],
                [0.0 if p.high is None else max(0.0, p.high - p.value) for p in line],
            ],
            marker="o", capsize=3, label=series,
        )  # fmt: skip
    axes.set_xticks(sorted({point.shots for point in points}))
    axes.set_xlabel("exemplars before the question")
    axes.set_ylabel("score (95 % interval)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
