"""``evalkit leaderboard``: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leaderboard(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Runs, or folders that hold runs.", show_default="runs")
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option("--format", help="table, md, csv or json; several with commas.", show_default="table"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write leaderboard.md, .csv, .json into this folder instead of printing."),
    ] = None,
) -> None:
    """Put finished runs side by side; scores stand in one row only if they are comparable."""
    from rich.console import Console

    from evalkit.errors import UserError
    from evalkit.results import leaderboard as board
    from evalkit.results.files import write_atomically
    from evalkit.settings import split_list

    wanted = split_list(format) or (("md", "csv", "json") if out else ("table",))
    unknown = [f for f in wanted if f not in board.FORMATS]
    if unknown:
        raise UserError(f"--format {unknown[0]}: there are {', '.join(board.FORMATS)}.")
    if out is not None and "table" in wanted:
        raise UserError("--format table is for the terminal; leave --out away, or choose md, csv or json.")
    entries = board.collect(folders or [Path("runs")])
    writers = {"md": board.to_markdown, "csv": board.to_csv, "json": board.to_json_text}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if name == "table":
            console = Console()
            console.print(board.to_table(entries))
            for note in board.notes(entries):
                console.print(note, style="dim", highlight=False, markup=False)
        elif out is None:
            print(writers[name](entries), end="")
        else:
            write_atomically(out / f"leaderboard.{name}", writers[name](entries))
            print(out / f"leaderboard.{name}")
