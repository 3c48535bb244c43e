"""``evalkit check``: the regression gate for continuous integration."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.results.compare import gate
from evalkit.results.compare import gate_reports as reports
from evalkit.results.compare.baseline import read_baseline, write_baseline
from evalkit.results.store.files import make_folder, write_atomically
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.terminal import OnTerminal

CHANGES_ON_TERMINAL = 5
"""Changed samples printed per task; the files list more."""


def check(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    baseline: Annotated[Path, typer.Option("--baseline", help="The file that 'evalkit baseline' wrote.")] = Path(
        "baseline.json"
    ),
    mode: Annotated[
        str, typer.Option("--mode", help="exact (identical answers), tolerance, or significant.")
    ] = "significant",
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Mode tolerance: largest drop allowed, in points.")
    ] = 0.0,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Mode significant: how often a run that is no worse may fail.")
    ] = 0.05,
    margin: Annotated[
        float, typer.Option("--margin", min=0, help="Mode significant: a drop up to this never fails, in points.")
    ] = 0.0,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here, one test case per task.")] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", help="Write a Markdown summary here ($GITHUB_STEP_SUMMARY).")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Show what changed, then save this run as the new baseline.")
    ] = False,
) -> None:
    """Check a run against a baseline, sample by sample.

    Exit code: 0 if every task passes, 1 if one fails, 2 if the two cannot be compared (different tasks, data, samples
    or scorers) or for a mistake in the command or its input.
    """
    options = CheckOptions(mode, tolerance, alpha, margin, junit, summary, update)
    raise typer.Exit(run_check(run, baseline, options))


@dataclass(frozen=True)
class CheckOptions:
    """The options of ``evalkit check``."""

    mode: str = "significant"
    tolerance: float = 0.0
    alpha: float = 0.05
    margin: float = 0.0
    junit: Path | None = None
    summary: Path | None = None
    update: bool = False


def run_check(path: Path, file: Path, options: CheckOptions) -> int:
    """Check, print and write the files; returns the exit code."""
    rule = rule_of(options)
    if options.update:
        return update_baseline(ScoredRun.open(path), file, rule)
    try:
        run = ScoredRun.open(path)
        baseline = read_baseline(file)
        checked = gate.check(run, baseline, rule)
    except UserError as error:
        # Replace the files: those of the last check would be wrong.
        name = path.resolve().name
        write_files(options, reports.impossible_junit(str(error), name), reports.impossible_summary(str(error)))
        raise
    console = new_console()
    table = reports.table_of(checked, run, baseline, rule)
    console.print(OnTerminal(table))
    show_changes(checked, console)
    for note in table.notes:
        console.print(note, highlight=False)
    write_files(options, reports.junit(checked, run), reports.summary(checked, run, baseline, rule))
    return 1 if any(one.failure for one in checked) else 0


def write_files(options: CheckOptions, xml: bytes, markdown: str) -> None:
    """Write the files named by ``--junit`` and ``--summary``."""
    if options.junit is not None:
        make_folder(options.junit.parent)
        write_atomically(options.junit, xml)
    if options.summary is not None:
        make_folder(options.summary.parent)
        before = ""
        if str(options.summary) == os.environ.get("GITHUB_STEP_SUMMARY"):
            with suppress(OSError):  # all commands of the step share this file
                before = options.summary.read_text(encoding="utf-8")
        write_atomically(options.summary, before + markdown)


def rule_of(options: CheckOptions) -> gate.Rule:
    """The rule that the options describe.

    Raises:
        UserError: an unknown mode, or an option that the mode does not use.
    """
    if options.mode not in gate.MODES:
        raise UserError(f"--mode {options.mode}: unknown; use one of {', '.join(gate.MODES)}.")
    if not 0 < options.alpha < 1:
        raise UserError(f"--alpha {options.alpha:g}: give a probability between 0 and 1, such as 0.05.")
    if options.tolerance and options.mode != "tolerance":
        raise UserError(f"--tolerance is for --mode tolerance; this is {options.mode}.")
    if options.margin and options.mode != "significant":
        raise UserError(f"--margin is for --mode significant; this is {options.mode}.")
    return gate.Rule(cast(gate.Mode, options.mode), options.tolerance, options.alpha, options.margin)


def update_baseline(run: ScoredRun, file: Path, rule: gate.Rule) -> int:
    """Show the changes and save the run as the baseline, also if the two cannot be compared."""
    console = new_console()
    baseline = None
    if file.is_file():
        try:
            baseline = read_baseline(file)
            checked = gate.check(run, baseline, rule)
            console.print(OnTerminal(reports.table_of(checked, run, baseline, rule)))
            show_changes(checked, console)
        except UserError as error:
            console.print(
                f"replacing the old baseline, which cannot be compared with this run: {error}",
                soft_wrap=True,
            )
    make_folder(file.parent)
    count = write_baseline(run, file, old=baseline)
    console.print(f"{file}: updated, {count:,} samples", highlight=False, soft_wrap=True)
    return 0


def show_changes(checked: list[gate.TaskCheck], console: Console) -> None:
    """Print the samples that changed, losses first."""
    for one in checked:
        if one.changes:
            console.print(f"{one.task}: {len(one.changes):,} of {one.found.n:,} samples changed", highlight=False)
            for line in reports.change_lines(one, CHANGES_ON_TERMINAL):
                console.print(f"  {line}", highlight=False, soft_wrap=True)
