"""Leaderboards and trends as PNG, scores with their 95 % intervals.  Needs matplotlib (the extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

from evalkit.errors import UserError
from evalkit.installation import install_command

from .rows import Column, Entry, columns_of, heading, runs_of
from .trend import trend_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"--plot needs matplotlib; install it with: {install_command('plot')}.") from error
    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _without_math(draw: Callable[P, bytes]) -> Callable[P, bytes]:
    """``draw`` with ``$`` as an ordinary character: a model's name is not a formula."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        try:
            from matplotlib import rc_context
        except ImportError:
            return draw(*args, **kwargs)  # which says what to install
        with rc_context({"text.parse_math": False}):
            return draw(*args, **kwargs)

    return drawn


def arms(entry: Entry) -> tuple[float, float]:
    """The lengths of the error bar below and above the score; 0 without an interval."""
    row = entry.row
    if row.ci95:
        return float(row.ci95), float(row.ci95)
    if row.ends is None:
        return 0.0, 0.0
    low, high = row.ends
    return max(0.0, row.score - low), max(0.0, high - row.score)


@_without_math
def leaderboard_png(entries: Sequence[Entry]) -> bytes:
    """One panel per column, one line per model.  Raises ``UserError`` without matplotlib."""
    columns = [c for c in columns_of(entries) if any(e.row.value is not None for e in c.cells.values())]
    if not columns:
        raise UserError("--format png: there is no score to draw.")
    runs = runs_of(entries)
    across = min(4, len(columns))
    down = -(-len(columns) // across)
    figure = _figure(1.8 + 2.6 * across, (0.9 + 0.3 * len(runs)) * down + 0.3)
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for panel, column in zip(panels.flat, columns, strict=False):
        _panel(panel, column, runs)
    for panel in panels.flat[len(columns) :]:
        panel.set_visible(False)
    for row in panels:
        row[0].set_yticks(range(len(runs)), [heading(entries, run) for run in runs])
    panels[0][0].set_ylim(len(runs) - 0.5, -0.5)
    figure.supxlabel("score, with its 95 % interval", fontsize=9)
    return _png(figure)


def _panel(panel, column: Column, runs: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    for place, run in enumerate(runs):
        e = column.cells.get(run)
        if e is not None and e.row.value is not None:
            low, high = arms(e)
            panel.errorbar([e.row.value], [place], xerr=[[low], [high]], fmt="o", capsize=3, color="#1f5fa8")
    panel.set_title(f"{column.label}\n{column.first.row.metric}, n={column.first.row.n:,}", fontsize=9)
    panel.grid(axis="x", alpha=0.3)
    panel.locator_params(axis="x", nbins=4)  # neighbours' numbers stay apart


@_without_math
def trend_png(entries: Sequence[Entry]) -> bytes:
    """One line per column over the training steps.  Raises ``UserError`` without matplotlib or two steps."""
    trend = trend_of(entries)
    lines = {
        column.label: [(step, column.cells[run]) for step, run in trend.steps if run in column.cells]
        for column in trend.columns
    }
    return _lines(lines, "training step")


@_without_math
def shots_png(shots: Mapping[str, tuple[str, int]], entries: Sequence[Entry]) -> bytes:
    """One line per model and split over the number of few-shot examples; ``shots`` has (model, number) by run.

    Raises:
        UserError: matplotlib is not installed.
    """
    lines: dict[str, list[tuple[int, Entry]]] = {}
    for e in entries:
        model, number = shots[e.run]
        lines.setdefault(f"{model} {e.row.task}/{e.row.split}", []).append((number, e))
    return _lines(lines, "few-shot examples")


def _lines(lines: Mapping[str, Sequence[tuple[int, Entry]]], below: str) -> bytes:
    """Score over an integer, one line per label."""
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    places: set[int] = set()
    for drawn, (label, points) in enumerate(lines.items()):
        found = sorted(((x, e) for x, e in points if e.row.value is not None), key=lambda point: point[0])
        if found:
            ends = [arms(e) for _, e in found]
            places.update(x for x, _ in found)
            axes.errorbar(
                [x for x, _ in found], [e.row.score for _, e in found],
                yerr=[[low for low, _ in ends], [high for _, high in ends]], marker="o", capsize=3, label=label,
                linestyle=("-", "--", ":")[drawn // 10 % 3],  # matplotlib has ten colours
            )  # fmt: skip
    if len(places) <= 12:
        axes.set_xticks(sorted(places))
    axes.set_xlabel(below)
    axes.set_ylabel("score (95 % interval)")
    axes.grid(alpha=0.3)
    if len(lines) > 6:
        figure.legend(frameon=False, loc="outside right upper")
    else:
        axes.legend(frameon=False)
    return _png(figure)
