"""``evalkit report``: a run's samples and scores as static pages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.results.report.write import write_report
from evalkit.results.samples.context import context_of
from evalkit.results.samples.join import check_runs
from evalkit.results.store.files import inside
from evalkit.results.store.scored_run import ScoredRun


def report(
    run: Annotated[Path, typer.Argument(help="The run folder.", show_default=False)],
    run_b: Annotated[
        Path | None, typer.Argument(help="A second run, B, to compare with.", metavar="RUN_B", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder or file to write.", show_default="RUN/report, RUN/report.html"),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Put everything in one file, to mail or attach.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the data is now.", show_default="where it was during the run"),
    ] = None,
    samples: Annotated[
        int,
        typer.Option("--samples", min=0, help="Samples per split in the gallery, chosen by hash of the id; 0: all."),
    ] = 5000,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", min=32, help="Longer side of the images, in pixels.", show_default="by their number"
        ),
    ] = None,
) -> None:
    """Write an HTML report that opens in any browser, offline.

    It contains scores with intervals and signatures and, for each split, a histogram, breakdowns, and a gallery of
    images, prompts, answers and references with boxes drawn, to filter, sort and search. If the data is no longer
    available, questions and references are left out, and images too if they are gone; the report says so.

    Exit code: 0 if the report was written, 2 for a mistake in the command or its input.
    """
    options = ReportOptions(out, single_file, data, samples or None, image_size)
    make_report([run] if run_b is None else [run, run_b], options)


@dataclass(frozen=True)
class ReportOptions:
    """The options of ``evalkit report``; ``samples`` is None for all."""

    out: Path | None = None
    single_file: bool = False
    data: str | None = None
    samples: int | None = None
    image_size: int | None = None


def make_report(paths: Sequence[Path], options: ReportOptions) -> None:
    """Write the report and print where it is.

    Raises:
        UserError: the same run twice, or a run that cannot be reported on.
    """
    console = new_console(stderr=True, highlight=False)
    began = time.monotonic()
    runs = [ScoredRun.open(path) for path in paths]
    if len(runs) > 1 and runs[0].path.resolve() == runs[1].path.resolve():
        raise UserError(f"{paths[0]} and {paths[1]} are the same run; give one, or two different runs.")
    contexts = {name: context_of(runs, name, options.data) for name in check_runs(runs)}
    out = options.out or inside(paths[0], "report.html" if options.single_file else "report")
    written = write_report(
        paths, contexts, out, single=options.single_file, most=options.samples, side=options.image_size
    )
    for note in written.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(
        f"{written.samples:,} samples, {written.images:,} images, {written.bytes / 1e6:.1f} MB, "
        f"in {time.monotonic() - began:.1f} s"
    )
    print(written.path)
