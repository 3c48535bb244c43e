"""``evalkit baseline``: save a run's scores and answers in one small file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.results.compare.baseline import write_baseline
from evalkit.results.store.files import make_folder
from evalkit.results.store.scored_run import ScoredRun


def baseline(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("baseline.json"),
) -> None:
    """Save a run's scores and answers for 'evalkit check'.

    The file has one line per sample; for a subset of a benchmark it is small enough to commit.
    """
    make_folder(out.parent)
    count = write_baseline(ScoredRun.open(run), out)
    print(f"{out}: {count:,} samples, {out.stat().st_size / 1000:,.0f} kB")
