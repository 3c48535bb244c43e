"""``evalkit baseline``: save a run's scores and answers in one small file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.results.compare.baseline import write_baseline
from evalkit.results.store.files import make_folder
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.subsets.subset_file import read_subset


def baseline(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("baseline.json"),
    subset: Annotated[
        Path | None,
        typer.Option("--subset", help="Keep only the samples of this file of 'evalkit subset'.", show_default="all"),
    ] = None,
) -> None:
    """Save a run's scores and answers for 'evalkit check'.

    The file has one line per sample; for a subset of a benchmark it is small enough to commit. With --subset, a
    complete run is cut to the samples that later runs have, and its complete score is kept to test them against.
    """
    make_folder(out.parent)
    count = write_baseline(ScoredRun.open(run), out, None if subset is None else read_subset(subset))
    print(f"{out}: {count:,} samples, {out.stat().st_size / 1000:,.0f} kB")
