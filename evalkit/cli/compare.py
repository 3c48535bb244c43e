"""``evalkit compare``: is B really better than A?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="table, md, csv, json, html or latex; several with commas.", show_default="table"),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", help="Write comparison.md, .csv, … into this folder instead of printing.")
]


def compare(
    runs: Annotated[list[Path], typer.Argument(help="The runs' folders: the first is the base.", metavar="A B [C …]")],
    force: Annotated[
        bool, typer.Option("--force", help="Show tasks that are not comparable too, marked, over the shared samples.")
    ] = False,
    show_flips: Annotated[
        int, typer.Option("--show-flips", min=0, help="The samples of each task that changed most, with answers.")
    ] = 0,
    format: Formats = None,
    out: OutFolder = None,
) -> None:
    """Compare runs with the first of them, sample by sample.

    For each task: both scores, the paired difference with its 95 % interval, a permutation test corrected over the
    tasks, and how large a difference so many samples could have shown. Tasks whose scorers, data, protocols or samples
    differ are refused, with the reason.

    Exit code: 0 when all tasks that the runs share were compared, 1 when some were refused, 2 when all were, or for a
    mistake in the command or its input.
    """
    from .comparing import execute

    raise typer.Exit(execute(runs, force=force, flips=show_flips, formats=format, out=out))
