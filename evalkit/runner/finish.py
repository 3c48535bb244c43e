"""The end of a run: scores, leaderboards, a plot, and its final state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.results.leaderboard import table as board
from evalkit.results.store.files import write_atomically
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import ScoreWriter
from evalkit.results.terminal import print_notes
from evalkit.scoring import Result

from .manifest import announce
from .plan import Plan

RETRY = "Run the same command to retry them."
COMPLETE, INCOMPLETE = ENDED = ("complete", "incomplete")
"""The states of runs that ended by themselves."""


def report_end(folder: RunFolder, results: Sequence[Result], console: Console, retry: str = RETRY) -> str:
    """Print how the run ended; returns its state.

    Args:
        retry: what the user can do about failed samples.
    """
    errors = sum(r.errors for r in results)
    failures = [r for r in results if r.failure is not None]
    report_unparsed(results, console)
    for result in failures:
        announce(console, f"{result.job.name} has no score: {result.failure}")
    if failures:
        announce(console, f"The answers are saved; 'evalkit rescore {folder.path}' scores them again.")
    if errors:
        failed = "1 sample" if errors == 1 else f"{errors:,} samples"
        where = f"; the errors are in {folder.path}/*.jsonl. {retry}".rstrip()
        console.print(Text.assemble((f"{failed} failed", "red"), where), soft_wrap=True)
    announce(console, f"run folder: {folder.path}")
    return INCOMPLETE if errors or failures else COMPLETE


def report_unparsed(results: Sequence[Result], console: Console) -> None:
    """Say of each split where nearly no answer could be parsed, and why."""
    for result in results:
        if result.unparsed_reason:
            announce(
                console, unparsed_sentence(result.job.name, result.unparsed, result.answers, result.unparsed_reason)
            )


def unparsed_sentence(job: str, unparsed: int, answers: int, reason: str) -> str:
    """Nearly no answer of a split could be parsed; and why."""
    return f"{job}: {unparsed:,} of {answers:,} answers could not be parsed and count as wrong: {reason}."


def write_scores(writer: ScoreWriter, results: Sequence[Result]) -> list[board.Entry]:
    """Write the scores and the run's own leaderboard, which has all its splits; returns the rows of ``results``."""
    rows, every = writer.write(results)
    run, model = str(writer.header["run"]), str(writer.header["model"])
    write_leaderboards(writer.folder, board.entries_of(run, model, every))
    return board.entries_of(run, model, rows)


def write_leaderboards(folder: RunFolder, entries: Sequence[board.Entry]) -> None:
    """Write the run's own leaderboard, of all its rows.  Raises ``RunFailed`` if it cannot be written."""
    write_atomically(folder.path / "leaderboard.md", board.to_markdown(entries))
    write_atomically(folder.path / "leaderboard.csv", board.to_csv(entries))


def print_leaderboard(entries: Sequence[board.Entry]) -> None:
    """Print the leaderboard, with a blank line on stderr between the messages there and the table."""
    new_console(stderr=True).print()
    out = new_console()
    out.print(board.to_table(entries))
    print_notes(out, board.notes(entries))


def plot_shots(plans: Sequence[Plan], entries: Sequence[board.Entry], out: Path, console: Console) -> None:
    """Plot score against number of few-shot examples, if matplotlib is installed."""
    from evalkit.results.leaderboard.plot import shots_png

    by_label = {plan.label: (plan.checkpoint.name, plan.shots) for plan in plans}
    shots = {e.run: by_label[e.model] for e in entries}
    path = out / f"shots-{hashlib.sha256(repr(sorted(shots)).encode()).hexdigest()[:8]}.png"
    try:
        write_atomically(path, shots_png(shots, entries))
    except UserError as error:
        console.print(f"no plot: {error}", soft_wrap=True)
        return
    console.print(f"score against shots: {path}", soft_wrap=True)
