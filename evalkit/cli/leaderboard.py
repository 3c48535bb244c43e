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
        typer.Option(
            "--format", help="table, md, csv, json, html, latex or png; several with commas.", show_default="table"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write leaderboard.md, .csv, .json, … into this folder instead of printing."),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="model, run, or a task, column or mean: the best first.", show_default="as found"),
    ] = None,
    means: Annotated[
        bool, typer.Option("--means", help="Add the means of captioning, vqa, text-reading and grounding.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Add published scores of the same splits, set apart.")
    ] = False,
    reproduce: Annotated[
        bool, typer.Option("--reproduce", help="Put measured scores beside the same models' published ones.")
    ] = False,
    trend: Annotated[
        bool, typer.Option("--trend", help="Checkpoints by the training step in their names (ckpt-1000).")
    ] = False,
) -> None:
    """Put finished runs side by side; scores stand in one column only if they are comparable."""
    from .boarding import Wanted, execute

    execute(folders or [Path("runs")], Wanted(sort, means, published, reproduce, trend), formats=format, out=out)
