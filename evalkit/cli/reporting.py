"""What ``evalkit report`` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from evalkit.errors import UserError
from evalkit.results.report.write import write_report
from evalkit.results.samples.context import known_of
from evalkit.results.samples.view import check_runs
from evalkit.results.store.scored_run import ScoredRun


@dataclass(frozen=True)
class Wanted:
    """The options of ``evalkit report``; ``samples`` is None for all."""

    out: Path | None = None
    single: bool = False
    data: str | None = None
    samples: int | None = None
    side: int | None = None


def execute(paths: Sequence[Path], wanted: Wanted) -> None:
    """Write the report and say where it is.  Raises ``UserError`` for whatever cannot be reported on."""
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    runs = [ScoredRun.open(path) for path in paths]
    if len(runs) > 1 and runs[0].path.resolve() == runs[1].path.resolve():
        raise UserError(f"{paths[0]} and {paths[1]} are the same run; give one, or another as the second.")
    known = {name: known_of(runs, name, wanted.data) for name in check_runs(runs)}
    out = wanted.out or paths[0] / ("report.html" if wanted.single else "report")
    written = write_report(paths, known, out, single=wanted.single, most=wanted.samples, side=wanted.side)
    for note in written.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    console.print(
        f"{written.samples:,} samples, {written.images:,} images, {written.bytes / 1e6:.1f} MB, "
        f"in {time.monotonic() - began:.1f} s"
    )
    print(written.path)
