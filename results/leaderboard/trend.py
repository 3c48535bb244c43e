"""Scores over training: checkpoints by the step in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.errors import UserError
from evalkit.results.tables import Cell, Table

from .rows import Column, Entry, columns_of, heading, runs_of
from .table import notes

STEP = re.compile(r"(?:ckpt|checkpoint|global_step|step|iter(?:ation)?)s?[-_=.]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Trend:
    """Runs by their step, ascending, and the columns of their scores."""

    steps: Sequence[tuple[int, str]]
    columns: Sequence[Column]


def step_of(*names: str) -> int | None:
    """The training step in a name: ``ckpt-1000``, ``checkpoint_2000``, ``global_step300``, or one that is a number."""
    for name in names:
        last = name.rstrip("/").rsplit("/", 1)[-1]
        if found := STEP.findall(last):
            return int(found[-1])
        if last.isdecimal():
            return int(last)
    return None


def trend_of(entries: Sequence[Entry]) -> Trend:
    """The runs by training step.  Raises ``UserError`` for fewer than two steps, or two runs of the same step."""
    models = {e.run: e.model for e in entries}
    found = [(step, run) for run in runs_of(entries) if (step := step_of(models[run], run)) is not None]
    if len({step for step, _ in found}) < 2:
        raise UserError(
            f"--trend: {len(found)} of these runs have a training step in their model's name (such as ckpt-1000); "
            "two different steps are needed."
        )
    at: dict[int, str] = {}
    for step, run in found:
        if at.setdefault(step, run) != run:
            raise UserError(f"--trend: {at[step]} and {run} both have step {step:,}; give the runs of one training.")
    chosen = {run for _, run in found}
    return Trend(sorted(found), columns_of([e for e in entries if e.run in chosen]))


def trend_table(entries: Sequence[Entry]) -> Table:
    """One row per checkpoint by training step, with the change since the row above."""
    trend = trend_of(entries)
    rows = []
    before: dict[str, float] = {}
    for step, run in trend.steps:
        cells = [Cell(f"{step:,}"), Cell(heading(entries, run))]
        for c in trend.columns:
            e = c.cells.get(run)
            text = "" if e is None else e.cell
            if e is not None and e.row.value is not None:
                if c.label in before:
                    text += f"  ({e.row.value - before[c.label]:+.2f})".replace("-", "−")
                before[c.label] = float(e.row.value)
            cells.append(Cell(text))
        rows.append(cells)
    note = "(+1.23): since the step before; 'evalkit compare' says whether that is more than chance."
    steps = {run for _, run in trend.steps}
    sentences = notes([e for e in entries if e.run in steps], ranked=False)
    return Table(["step", "model", *(c.label for c in trend.columns)], rows, 2, "Trend", [note, *sentences])
