"""``evalkit export``: finished runs for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .tasks import complete_task


def export(
    runs: Annotated[
        list[Path], typer.Argument(help="The run's folder; several for csv, parquet, hub and the trackers.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            show_default=False,
            help="csv, parquet, hub (a folder for datasets.load_dataset), results (files for the official scorers), "
            "model-card, tensorboard or wandb.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file or folder to write.", show_default="RUN/export/…"),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            "-t",
            autocompletion=complete_task,
            show_default="all that the run has",
            help="Tasks, splits (refcoco/testA) or groups of the run, with commas.",
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Put the images in too (hub, and wandb's tables of samples).")
    ] = False,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="wandb: samples of each split in a table, drawn by their ids.")
    ] = 200,
    step: Annotated[
        int | None,
        typer.Option(
            "--step", help="tensorboard and wandb: the training step.", show_default="the one in the model's name"
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="wandb: the project.", show_default="$WANDB_PROJECT, else evalkit")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Where the questions are now.", show_default="where they were when it ran"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a finished run in another form: no model, no GPU.

    csv and parquet have one row per sample; hub is the same as a data set; results are the files that the official
    scorers read; model-card is the hub's model-index (a model card that is there already is updated, all else in it
    kept).

    Exit code: 0 when it is written, 1 when it cannot be, 2 for a mistake in the command or its input.
    """
    from .exporting import Wanted, execute

    execute(runs, Wanted(to, out, tasks or (), images, samples, step, project, data, force))
