"""Means of groups of benchmarks, as ``evalkit leaderboard --means`` adds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.results.stats.intervals import scale_of
from evalkit.results.store.score_row import ScoreRow
from evalkit.task_groups import GROUPS, MEANS

from .rows import Column, error_of, labels

AVERAGED = ("captioning", "vqa", "text-reading", "grounding")
"""The groups of ``evalkit.task_groups`` whose means ``--means`` adds; the metrics of a group are of one kind."""
SHARING = ("vqa", "grounding")
"""Groups whose tasks share images (COCO's), so that their errors are not independent."""


@dataclass(frozen=True)
class Average:
    """The unweighted mean of a group's columns."""

    group: str
    members: Sequence[Column]

    @property
    def note(self) -> str:
        how = "are added, since they share images" if self.group in SHARING else "are taken as independent"
        return (
            f"{self.group} (mean of {len(self.members)}): {', '.join(labels(self.members))}, unweighted; "
            f"their errors {how}; the interval is ± 1.96 standard errors, cut at the ends of the scale."
        )


def averages_of(columns: Sequence[Column]) -> dict[str, Average]:
    """The means of the groups with at least two columns, by heading.

    A group whose mean is a row of the runs (``refcoco-all``) already has a column, with a better error bar.
    """
    scored = [c for c in columns if any(e.row.value is not None for e in c.cells.values())]
    own = {frozenset(MEANS[c.first.row.task]) for c in scored if c.first.row.task in MEANS}
    found = {}
    for group in AVERAGED:
        members = [c for c in scored if {c.first.row.task, c.first.place} & set(GROUPS[group])]
        splits = {c.first.place for c in members}
        if len(members) > 1 and len(splits) == len(members) and splits not in own:
            found[f"{group} (mean of {len(members)})"] = Average(group, members)
    return found


def _rows(run: str, average: Average) -> list[ScoreRow]:
    """The rows of a mean; empty if the run lacks one of them."""
    rows = [c.cells[run].row for c in average.members if run in c.cells and c.cells[run].row.value is not None]
    return rows if len(rows) == len(average.members) else []


def mean_of(run: str, average: Average) -> float | None:
    rows = _rows(run, average)
    return sum(row.score for row in rows) / len(rows) if rows else None


def mean_cell(run: str, average: Average) -> str:
    """The mean of a run's scores with its 95 % interval, cut at the ends of the scale; empty if a score is missing."""
    rows, value = _rows(run, average), mean_of(run, average)
    if value is None:
        return ""
    errors = [error for row in rows if (error := error_of(row)) is not None]
    if len(errors) < len(rows):
        return f"{value:.2f}"
    half = 1.96 * (sum(errors) if average.group in SHARING else math.hypot(*errors)) / len(rows)
    scales = {scale_of(row.metric, row.signature) for row in rows}
    top = math.inf if None in scales else max(scale for scale in scales if scale is not None)
    if value - half < 0 or value + half > top:
        return f"{value:.2f} [{max(0.0, value - half):.1f}, {min(top, value + half):.1f}]"
    return f"{value:.2f} ± {half:.2f}"
