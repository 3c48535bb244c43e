"""``evalkit check``: the gate for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    baseline: Annotated[Path, typer.Option("--baseline", help="What 'evalkit baseline' wrote.")] = Path(
        "baseline.json"
    ),
    mode: Annotated[
        str, typer.Option("--mode", help="exact (same answers), tolerance, or significant.")
    ] = "significant",
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="For tolerance: how much lower a score may be, in points.")
    ] = 0.0,
    alpha: Annotated[
        float, typer.Option("--alpha", help="For significant: how often a run that is no worse may fail.")
    ] = 0.05,
    margin: Annotated[
        float, typer.Option("--margin", min=0, help="For significant: a drop up to this never fails, in points.")
    ] = 0.0,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here, a test case a task.")] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", help="Write a Markdown summary here ($GITHUB_STEP_SUMMARY).")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Show what changed, then take this run as the new baseline.")
    ] = False,
) -> None:
    """Check a run against a baseline, sample by sample.

    Exit code: 0 when every task passes, 1 when one fails, 2 when the two cannot be compared (other tasks, data,
    samples or scorers) or for a mistake in the command or its input.
    """
    from .checking import Given, execute

    raise typer.Exit(execute(run, baseline, Given(mode, tolerance, alpha, margin, junit, summary, update)))
