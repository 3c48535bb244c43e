"""``evalkit report``: what the model saw and said, as static pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)],
    run_b: Annotated[
        Path | None, typer.Argument(help="A second run, B, to set beside it.", metavar="[RUN_B]", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write, or the file.", show_default="RUN/report, RUN/report.html"),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Everything in one file, to be mailed or attached.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the questions are now.", show_default="where they were when it ran"),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Samples of each split in the gallery, drawn by their ids; 0: all.")
    ] = 5000,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", min=32, help="The longer side of the images, in pixels.", show_default="by their number"
        ),
    ] = None,
) -> None:
    """Write a report that opens in any browser, from the disk: no server, no network.

    Scores with intervals and signatures; for each split a histogram, breakdowns, and a gallery of images, prompts,
    answers and references, boxes drawn, to be filtered, sorted and searched. Where the data are not there any more,
    the report goes without questions, references and, if they are gone too, images, and says so.

    Exit code: 0 when the report is written, 2 for a mistake in the command or its input.
    """
    from .reporting import Wanted, execute

    wanted = Wanted(out, single_file, data, samples or None, image_size)
    execute([run] if run_b is None else [run, run_b], wanted)
