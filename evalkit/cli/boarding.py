"""What ``evalkit leaderboard`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from evalkit.errors import UserError
from evalkit.results.leaderboard import table as board
from evalkit.results.leaderboard.rows import Entry, collect, columns_of, runs_of
from evalkit.results.store.files import write_atomically
from evalkit.results.tables import OnTerminal, Table

from .options import chosen, made


@dataclass(frozen=True)
class Wanted:
    """What the table should have; see the options of ``evalkit leaderboard``."""

    sort: str | None = None
    means: bool = False
    published: bool = False
    reproduce: bool = False
    trend: bool = False


def execute(folders: Sequence[Path], wanted: Wanted, *, formats: Sequence[str] | None, out: Path | None) -> None:
    """Collect the runs, and print or write the tables."""
    names = chosen(formats, board.FORMATS, out, ("md", "csv", "json"))
    if "png" in names and out is None:
        raise UserError("--format png is an image: give --out FOLDER to write it into.")
    others = ("sort", "means", "published", "reproduce")
    if wanted.trend and (given := [f"--{name}" for name in others if getattr(wanted, name)]):
        raise UserError(f"--trend is a table of its own, by training step; leave {', '.join(given)} out.")
    entries = collect(folders)
    tables = tables_of(entries, wanted)
    entries = board.in_order(entries, wanted.sort, means=wanted.means)
    for name in names:
        if name == "table":
            show(tables)
            continue
        content = image(entries, wanted) if name == "png" else text(entries, tables, wanted, name)
        if out is None:
            print(content if isinstance(content, str) else "", end="")
        else:
            path = made(out) / f"leaderboard.{'tex' if name == 'latex' else name}"
            write_atomically(path, content)
            print(path)


def tables_of(entries: Sequence[Entry], wanted: Wanted) -> list[Table]:
    """The leaderboard, with published rows below it, and what was asked for besides."""
    if wanted.trend:
        from evalkit.results.leaderboard.trend import trend_table

        return [trend_table(entries)]
    several = len(runs_of(entries)) > 1 or wanted.published or wanted.means
    table = board.models_table(entries, sort=wanted.sort, means=wanted.means) if several else board.table_of(entries)
    if wanted.published:
        from evalkit.results.leaderboard.published import published_rows

        rows, said = published_rows(entries)
        more = len(table.header) - 1 - len(columns_of(entries))  # the columns of means
        table = replace(
            table,
            rows=[*table.rows, *([*row, *[""] * more] for row in rows)],
            rules=(len(table.rows),),
            notes=(*said, *table.notes),
        )
    if wanted.reproduce:
        from evalkit.results.leaderboard.published import reproduction

        return [table, reproduction(entries)]
    return [table]


def show(tables: Sequence[Table]) -> None:
    """On the terminal, wide tables in blocks."""
    console = Console()
    for table in tables:
        if table.rows:
            console.print(OnTerminal(table))
        for note in table.notes:
            console.print(note, style="dim", highlight=False, markup=False)


def text(entries: Sequence[Entry], tables: Sequence[Table], wanted: Wanted, name: str) -> str:
    """The tables as Markdown, HTML or LaTeX; CSV and JSON are the records behind them."""
    if name in board.TEXTS:
        return board.TEXTS[name](list(tables))
    every = list(entries)
    if wanted.published or wanted.reproduce:
        from evalkit.results.leaderboard.published import as_entries

        every += as_entries(entries)
    return board.to_csv(every) if name == "csv" else board.to_json_text(every)


def image(entries: Sequence[Entry], wanted: Wanted) -> bytes:
    """The leaderboard, or the trend, as a PNG."""
    from evalkit.results.leaderboard import plot

    return plot.trend_png(entries) if wanted.trend else plot.leaderboard_png(entries)
