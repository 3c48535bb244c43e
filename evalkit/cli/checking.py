"""What ``evalkit check`` does."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rich.console import Console

from evalkit.errors import UserError
from evalkit.results.compare.baseline import read_baseline, write_baseline
from evalkit.results.compare.gate import (
    MODES,
    Checked,
    Mode,
    Rule,
    change_lines,
    check,
    impossible_junit,
    impossible_summary,
    junit,
    summary,
    table_of,
)
from evalkit.results.store.files import write_atomically
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.tables import OnTerminal

from .options import made

ON_TERMINAL = 5
"""Changed samples of a task that are shown; the reports have more."""


@dataclass(frozen=True)
class Given:
    """The options of ``evalkit check``."""

    mode: str = "significant"
    tolerance: float = 0.0
    alpha: float = 0.05
    margin: float = 0.0
    junit: Path | None = None
    summary: Path | None = None
    update: bool = False


def execute(path: Path, file: Path, given: Given) -> int:
    """Check, show and report; returns the exit code."""
    rule = rule_of(given)
    if given.update:
        return update(ScoredRun.open(path), file, rule)
    try:
        run = ScoredRun.open(path)
        baseline = read_baseline(file)
        checked = check(run, baseline, rule)
    except UserError as error:
        # A page that shows the last check's outcome would be wrong.
        report(given, impossible_junit(str(error), path.resolve().name), impossible_summary(str(error)))
        raise
    console = Console()
    table = table_of(checked, run, baseline, rule)
    console.print(OnTerminal(table))
    show_changes(checked, console)
    for note in table.notes:
        console.print(note, highlight=False, markup=False)
    report(given, junit(checked, run), summary(checked, run, baseline, rule))
    return 1 if any(one.failure for one in checked) else 0


def report(given: Given, xml: bytes, markdown: str) -> None:
    """Write the files that were asked for."""
    if given.junit is not None:
        made(given.junit.parent)
        write_atomically(given.junit, xml)
    if given.summary is not None:
        made(given.summary.parent)
        before = ""
        if str(given.summary) == os.environ.get("GITHUB_STEP_SUMMARY"):
            with suppress(OSError):  # the page belongs to all of the step's commands
                before = given.summary.read_text(encoding="utf-8")
        write_atomically(given.summary, before + markdown)


def rule_of(given: Given) -> Rule:
    """Raises ``UserError`` for an unknown mode, or options that it does not look at."""
    if given.mode not in MODES:
        raise UserError(f"--mode {given.mode}: there are {', '.join(MODES)}.")
    if not 0 < given.alpha < 1:
        raise UserError(f"--alpha {given.alpha:g}: give a probability between 0 and 1, such as 0.05.")
    if given.tolerance and given.mode != "tolerance":
        raise UserError(f"--tolerance is for --mode tolerance; this is {given.mode}.")
    if given.margin and given.mode != "significant":
        raise UserError(f"--margin is for --mode significant; this is {given.mode}.")
    return Rule(cast(Mode, given.mode), given.tolerance, given.alpha, given.margin)


def update(run: ScoredRun, file: Path, rule: Rule) -> int:
    """Take the run as the baseline, and say what that changes; what cannot be compared may be replaced too."""
    console = Console()
    if file.is_file():
        try:
            baseline = read_baseline(file)
            checked = check(run, baseline, rule)
            console.print(OnTerminal(table_of(checked, run, baseline, rule)))
            show_changes(checked, console)
        except UserError as error:
            console.print(
                f"the baseline so far is replaced without a comparison: {error}", soft_wrap=True, markup=False
            )
    made(file.parent)
    count = write_baseline(run, file)
    console.print(f"{file}: updated, {count:,} samples", highlight=False, soft_wrap=True)
    return 0


def show_changes(checked: list[Checked], console: Console) -> None:
    """Which samples changed, losses first."""
    for one in checked:
        if one.changes:
            console.print(f"{one.task}: {len(one.changes):,} of {one.found.n:,} samples changed", highlight=False)
            for line in change_lines(one, ON_TERMINAL):
                console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
