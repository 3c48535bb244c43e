"""``evalkit leaderboard``: finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from evalkit.console import new_console, print_document
from evalkit.errors import UserError
from evalkit.results.leaderboard import table as board
from evalkit.results.leaderboard.rows import Entry, collect, columns_of, run_folders, runs_of
from evalkit.results.store.files import make_folder, write_atomically
from evalkit.results.tables import Table
from evalkit.results.terminal import OnTerminal, print_notes

from .options import choose_formats


def leaderboard(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, or folders that contain runs.", show_default="runs")
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="table, md, csv, json, html, latex or png; comma-separated.", show_default="table"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write leaderboard.md, .csv, .json, … into this folder instead of printing."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", help="model, run, or a task, column or mean (best first).", show_default="the order found"
        ),
    ] = None,
    means: Annotated[
        bool, typer.Option("--means", help="Add the means of captioning, vqa, text-reading and grounding.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Add published scores on the same splits, below a rule.")
    ] = False,
    reproduce: Annotated[
        str | None,
        typer.Option(
            "--reproduce",
            metavar="MODEL",
            help="Compare measured scores with the published ones of MODEL, such as qwen2.5-vl-7b, in the order of its "
            "report, with known reasons for gaps; 'auto' for the models that the runs are named after.",
        ),
    ] = None,
    trend: Annotated[
        bool, typer.Option("--trend", help="Show scores by training step, read from names such as ckpt-1000.")
    ] = False,
    formulas: Annotated[
        bool,
        typer.Option("--formulas", help="csv: write names such as =1+1 as they are, without an apostrophe in front."),
    ] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site", metavar="DIR",
            help="Write a static site with search, filters and breakdowns into this folder, and a report on each run.",
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="Title of the site.")] = "Leaderboard",
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Samples per split in the reports of the site; 0: no reports.")
    ] = 200,
) -> None:  # fmt: skip
    """Show finished runs side by side.

    Scores share a column only if they are comparable: same data, scorer, protocol and samples.
    """
    if site is not None:
        others = {"format": format, "out": out, "published": published, "reproduce": reproduce, "trend": trend}
        if given := [f"--{name}" for name, value in others.items() if value]:
            raise UserError(f"--site writes its own files: drop {', '.join(given)}.")
        make_site(folders or [Path("runs")], site, title=title, samples=samples, means=means, sort=sort)
        return
    options = LeaderboardOptions(sort, means, published, reproduce, trend, formulas)
    write_leaderboard(folders or [Path("runs")], options, formats=format, out=out)


@dataclass(frozen=True)
class LeaderboardOptions:
    """What the table contains; see the options of ``evalkit leaderboard``."""

    sort: str | None = None
    means: bool = False
    published: bool = False
    reproduce: str | None = None
    trend: bool = False
    formulas: bool = False


def write_leaderboard(
    folders: Sequence[Path], options: LeaderboardOptions, *, formats: Sequence[str] | None, out: Path | None
) -> None:
    """Collect the runs, and print or write the tables."""
    names = choose_formats(formats, board.FORMATS, out, ("md", "csv", "json"))
    if "png" in names and out is None:
        raise UserError("--format png is an image: add --out FOLDER to write it to.")
    others = ("sort", "means", "published", "reproduce")
    if options.trend and (given := [f"--{name}" for name in others if getattr(options, name)]):
        raise UserError(f"--trend is a table of its own, by training step; drop {', '.join(given)}.")
    entries = collect(folders)
    tables = tables_of(entries, options)
    entries = board.in_order(entries, options.sort, means=options.means)
    for name in names:
        if name == "table":
            show(tables)
            continue
        content = image(entries, options) if name == "png" else text(entries, tables, options, name)
        if out is None:
            print_document(str(content), name)
        else:
            path = make_folder(out) / f"leaderboard.{'tex' if name == 'latex' else name}"
            write_atomically(path, content)
            print(path)


def make_site(folders: Sequence[Path], site: Path, *, title: str, samples: int, means: bool, sort: str | None) -> None:
    """Write the site and print where its page is."""
    from evalkit.results.site.write import SiteOptions, write_site

    console = new_console(stderr=True, highlight=False)
    page = write_site(
        collect(folders), run_folders(folders), site, SiteOptions(title, samples, means, sort),
        lambda sentence: console.print(sentence, soft_wrap=True, markup=False),
    )  # fmt: skip
    print(page)


def tables_of(entries: Sequence[Entry], options: LeaderboardOptions) -> list[Table]:
    """The leaderboard, published rows below it, and the tables that options add."""
    if options.trend:
        from evalkit.results.leaderboard.trend import trend_table

        return [trend_table(entries)]
    several = len(runs_of(entries)) > 1 or options.published or options.means
    table = board.models_table(entries, sort=options.sort, means=options.means) if several else board.table_of(entries)
    if options.published:
        from evalkit.results.leaderboard.published import published_rows

        rows, notes = published_rows(entries)
        mean_columns = len(table.header) - 1 - len(columns_of(entries))
        table = replace(
            table,
            rows=[*table.rows, *([*row, *[""] * mean_columns] for row in rows)],
            rules=(len(table.rows),),
            notes=(*notes, *table.notes),
        )
    if options.reproduce:
        from evalkit.results.leaderboard.reproduction import reproduction

        return [table, reproduction(entries, options.reproduce)]
    return [table]


def show(tables: Sequence[Table]) -> None:
    """Print the tables on the terminal; wide ones in blocks of columns."""
    console = new_console()
    for table in tables:
        if table.rows:
            console.print(OnTerminal(table))
        print_notes(console, table.notes)


def text(entries: Sequence[Entry], tables: Sequence[Table], options: LeaderboardOptions, name: str) -> str:
    """The tables as Markdown, HTML or LaTeX, or the records behind them as CSV or JSON."""
    if name in board.TEXTS:
        return board.TEXTS[name](list(tables))
    more = []
    if options.published or options.reproduce:
        from evalkit.results.leaderboard.published import records_of_published

        more = records_of_published(entries)
    return (
        board.to_csv(entries, more, formulas=options.formulas) if name == "csv" else board.to_json_text(entries, more)
    )


def image(entries: Sequence[Entry], options: LeaderboardOptions) -> bytes:
    """The leaderboard or the trend as a PNG."""
    from evalkit.results.leaderboard import plot

    return plot.trend_png(entries) if options.trend else plot.leaderboard_png(entries)
