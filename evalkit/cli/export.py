"""``evalkit export``: finished runs for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from evalkit.console import new_console
from evalkit.errors import UserError
from evalkit.results.export.write import DEFAULT_NAMES, WRITERS, ExportJob, ExportOptions
from evalkit.results.samples.records import chosen_splits
from evalkit.results.store.files import inside
from evalkit.results.store.scored_run import ScoredRun
from evalkit.settings import split_list

from .options import complete_task

SINGLE_RUN = ("results", "model-card", "eval-results")
"""Formats for a single run."""


def export(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several for csv, parquet, hub and the trackers.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            show_default=False,
            help="csv, parquet, hub (a folder for datasets.load_dataset), results (files for the official scorers), "
            "model-card, eval-results (for the hub's leaderboards), tensorboard or wandb.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File or folder to write.", show_default="RUN/export/…"),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            "-t",
            autocompletion=complete_task,
            show_default="all in the run",
            help="Tasks, splits (refcoco/testA) or groups of the run, comma-separated.",
        ),
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Include the images (hub, wandb's sample tables).")] = False,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="wandb: samples per split in a table, chosen by hash of the id.")
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
        typer.Option("--data", help="Where the data is now.", show_default="where it was during the run"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    formulas: Annotated[
        bool,
        typer.Option("--formulas", help="csv: write texts such as =1+1 as they are, without an apostrophe in front."),
    ] = False,
) -> None:
    """Write finished runs in another format: no model, no GPU.

    csv and parquet have one row per sample; hub is the same as a dataset; results are the files that the official
    scorers read; model-card is the hub's model-index (in an existing model card, only that part is replaced);
    eval-results are the files of a model repository's .eval_results.

    Exit code: 0 if it was written, 1 if it could not be, 2 for a mistake in the command or its input.
    """
    export_runs(runs, ExportOptions(to, out, tasks or (), images, samples, step, project, data, force, formulas))


def export_runs(paths: Sequence[Path], options: ExportOptions) -> None:
    """Write the runs and print where they are.

    Raises:
        UserError: options that exclude each other, or runs that cannot be exported.
    """
    console = new_console(stderr=True, highlight=False)
    check_options(paths, options)
    runs = [ScoredRun.open(path) for path in paths]
    chosen = chosen_splits(runs, split_list(options.tasks))
    names = [[name for name in chosen if name in run.rows] for run in runs]
    out = options.out or inside(paths[0], "export", *filter(None, [DEFAULT_NAMES[options.to]]))
    printed: set[str] = set()

    def tell(message: str) -> None:
        if message not in printed:
            console.print(message, soft_wrap=True)
        printed.add(message)

    for place in WRITERS[options.to](ExportJob(runs, names, out, options, tell)):
        print(place)


def check_options(paths: Sequence[Path], options: ExportOptions) -> None:
    """Raise ``UserError`` for unknown values and options that exclude each other."""
    to = options.to
    if to not in DEFAULT_NAMES:
        raise UserError(f"--to {to}: unknown; use one of {', '.join(DEFAULT_NAMES)}.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a run is given twice; give each once.")
    if len(paths) > 1 and to in SINGLE_RUN:
        raise UserError(f"--to {to} is for a single run; export the others separately.")
    if len(paths) > 1 and options.out is None:
        raise UserError(f"{len(paths)} runs: add --out to say where to write them.")
    if options.images and to not in ("hub", "wandb"):
        raise UserError(f"--images is for --to hub and --to wandb; --to {to} contains the images' names.")
    for option, value, formats in (
        ("--step", options.step, ("tensorboard", "wandb")),
        ("--project", options.project, ("wandb",)),
        ("--formulas", options.formulas or None, ("csv",)),
    ):
        if value is not None and to not in formats:
            raise UserError(f"{option} has no effect with --to {to}; drop it.")
