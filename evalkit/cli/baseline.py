"""``evalkit baseline``: a run's scores and answers as one small file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def baseline(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("baseline.json"),
) -> None:
    """Write a run's scores and answers into one file, for 'evalkit check' to compare with.

    It has a line a sample: small enough to commit for a subset.
    """
    from evalkit.results.compare.baseline import write_baseline
    from evalkit.results.store.scored_run import ScoredRun

    from .options import made

    made(out.parent)
    count = write_baseline(ScoredRun.open(run), out)
    print(f"{out}: {count:,} samples, {out.stat().st_size / 1000:,.0f} kB")
