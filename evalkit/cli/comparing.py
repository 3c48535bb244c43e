"""What ``evalkit compare`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from evalkit.errors import UserError
from evalkit.results.compare.comparison import Comparison, Flip, compare_runs
from evalkit.results.compare.tables import flips_csv, letter, notes_of, refusals, tables_of, to_text
from evalkit.results.store.files import write_atomically
from evalkit.results.tables import OnTerminal, flat

from .options import chosen, made

FORMATS = ("table", "md", "csv", "json", "html", "latex")


def execute(runs: Sequence[Path], *, force: bool, flips: int, formats: Sequence[str] | None, out: Path | None) -> int:
    """Compare and show; returns the exit code."""
    wanted = chosen(formats, FORMATS, out, ("md", "csv", "json"))
    if flips and out is None and "csv" in wanted:
        raise UserError("--show-flips with --format csv is a second table: give --out FOLDER, or --format json.")
    found = compare_runs(runs, force=force, flips=flips)
    refused = refusals(found)
    if not found.compared:
        raise UserError(" ".join([*refused, "Give --force to see the numbers side by side."]))
    for name in wanted:
        if name == "table":
            show(found)
        elif out is None:
            print(to_text(found, name), end="")
        else:
            path = made(out) / f"comparison.{'tex' if name == 'latex' else name}"
            write_atomically(path, to_text(found, name))
            print(path)
            if name == "csv" and flips:
                write_atomically(out / "comparison-flips.csv", flips_csv(found))
                print(out / "comparison-flips.csv")
    console = Console(stderr=True, highlight=False)
    for sentence in refused:
        console.print(f"refused: {sentence} (--force shows it)", soft_wrap=True, markup=False)
    return 1 if refused else 0


def show(found: Comparison) -> None:
    """The tables on the terminal; answers and images as lines, for they are long."""
    console = Console()
    for table in tables_of(replace(found, compared=tuple(replace(one, flips=()) for one in found.compared))):
        console.print(OnTerminal(table))
    for one in found.compared:
        for flip in one.flips:
            console.print(lines_of(flip, letter(one.candidate)), highlight=False, markup=False, soft_wrap=True)
    for note in notes_of(found):
        console.print(note, style="dim", highlight=False, markup=False)


def lines_of(flip: Flip, name: str) -> str:
    """A sample that changed, in four lines."""
    return (
        f"{flip.task} {flat(flip.id)}: {flip.base:.1f} → {flip.candidate:.1f}\n"
        f"  A: {flat(flip.base_answer)}\n  {name}: {flat(flip.candidate_answer)}\n"
        f"  image: {flat(flip.image) or 'none'}"
    )
