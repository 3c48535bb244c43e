"""``evalkit compare``: paired comparison of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from evalkit.console import new_console, print_document
from evalkit.errors import UserError
from evalkit.results.compare.comparison import Comparison, Flip, compare_runs
from evalkit.results.compare.tables import flips_csv, letter, notes_of, refusals, tables_of, to_text
from evalkit.results.store.files import make_folder, write_atomically
from evalkit.results.tables import flat
from evalkit.results.terminal import OnTerminal, print_notes

from .options import choose_formats

FORMATS = ("table", "md", "csv", "json", "html", "latex")


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; A is the base.", metavar="A B [C …]")],
    force: Annotated[
        bool, typer.Option("--force", help="Show tasks that are not comparable too, marked, on the shared samples.")
    ] = False,
    show_flips: Annotated[
        int, typer.Option("--show-flips", min=0, help="Per task, show this many of the samples that changed most.")
    ] = 0,
    format: Annotated[
        list[str] | None,
        typer.Option("--format", help="table, md, csv, json, html or latex; comma-separated.", show_default="table"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write comparison.md, .csv, … into this folder instead of printing.")
    ] = None,
) -> None:
    """Compare runs with the first of them, sample by sample.

    For each task: both scores, the paired difference with its 95 % interval, a permutation test corrected over the
    tasks, and the smallest difference that this many samples can show. Tasks whose scorers, data, protocols or samples
    differ are refused, with the reason.

    Exit code: 0 if all shared tasks were compared, 1 if some were refused, 2 if all were, or for a mistake in the
    command or its input.
    """
    raise typer.Exit(write_comparison(runs, force=force, flips=show_flips, formats=format, out=out))


def write_comparison(
    runs: Sequence[Path], *, force: bool, flips: int, formats: Sequence[str] | None, out: Path | None
) -> int:
    """Compare, and print or write the tables; returns the exit code."""
    names = choose_formats(formats, FORMATS, out, ("md", "csv", "json"))
    if flips and out is None and "csv" in names:
        raise UserError("--show-flips with --format csv makes a second table: add --out FOLDER, or use --format json.")
    found = compare_runs(runs, force=force, flips=flips)
    refused = refusals(found)
    if not found.compared:
        raise UserError(" ".join([*refused, "Add --force to see the numbers side by side."]))
    for name in names:
        if name == "table":
            show(found)
        elif out is None:
            print_document(to_text(found, name), name)
        else:
            path = make_folder(out) / f"comparison.{'tex' if name == 'latex' else name}"
            write_atomically(path, to_text(found, name))
            print(path)
            if name == "csv" and flips:
                write_atomically(out / "comparison-flips.csv", flips_csv(found))
                print(out / "comparison-flips.csv")
    console = new_console(stderr=True, highlight=False)
    for reason in refused:
        console.print(f"refused: {reason} (--force shows it)", soft_wrap=True)
    return 1 if refused else 0


def show(found: Comparison) -> None:
    """Print the tables on the terminal; changed samples as lines, since answers are long."""
    console = new_console()
    for table in tables_of(replace(found, compared=tuple(replace(one, flips=()) for one in found.compared))):
        console.print(OnTerminal(table))
    for one in found.compared:
        for flip in one.flips:
            console.print(lines_of(flip, letter(one.candidate)), highlight=False, soft_wrap=True)
    print_notes(console, notes_of(found))


def lines_of(flip: Flip, name: str) -> str:
    """A changed sample in four lines; ``name`` is the candidate's letter."""
    return (
        f"{flip.task} {flat(flip.id)}: {flip.base:.1f} → {flip.candidate:.1f}\n"
        f"  A: {flat(flip.base_answer)}\n  {name}: {flat(flip.candidate_answer)}\n"
        f"  image: {flat(flip.image) or 'none'}"
    )
