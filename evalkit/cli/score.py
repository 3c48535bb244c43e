"""``evalkit score``: score answers that were made elsewhere."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from evalkit import registry
from evalkit.console import new_console
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.jobs import OFFICIAL, Job, load_job, parse_tasks
from evalkit.predictions import Reader, match, read_predictions
from evalkit.results.store.journal import appending
from evalkit.results.store.manifest import Manifest, SplitRecord
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import ScoreWriter
from evalkit.runner.finish import print_leaderboard, report_end, write_scores
from evalkit.runner.manifest import environment, logging_to, quiet_logging, recording
from evalkit.scoring import Result, check_scorable, score_job
from evalkit.settings import Effective, default_data, effective, split_list

from .options import setting


def score(
    tasks: Annotated[list[str] | None, setting("tasks")] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--predictions", "-p", rich_help_panel="Common",
            help='The answers: JSON lines {"id": …, "text": …}, or a result file in the format of COCO, VQA, GQA, '
            "DocVQA or VizWiz. One file per split, in the order of --tasks; comma-separated.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        setting("data", help="Where the data is, as in 'evalkit run'.", show_default="$EVALKIT_DATA, else hub"),
    ] = None,
    out: Annotated[str | None, setting("out")] = None,
    name: Annotated[
        str | None, setting("name", rich_help_panel="Common", show_default="the predictions' name and the time")
    ] = None,
    split: Annotated[list[str] | None, setting("split")] = None,
    kind: Annotated[str | None, setting("kind")] = None,
    allow_missing: Annotated[
        bool,
        setting("allow_missing", help="Score even if some samples have no answer; they count as errors."),
    ] = False,
    family: Annotated[
        str | None,
        setting(
            "family",
            rich_help_panel="Parsing",
            help="Model family that gave the answers: they are parsed as its raw output, boxes in its coordinates.",
            show_default="none: answers are final texts",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        setting(
            "protocol",
            rich_help_panel="Parsing",
            help="Protocol of the family's prompts, which decides the parsing: official, lmms-eval or vlmevalkit.",
        ),
    ] = None,
    min_pixels: Annotated[
        int | None,
        setting(
            "min_pixels",
            rich_help_panel="Parsing",
            show_default="the family's",
            help="For boxes in pixels of the resized image: the processor's minimum number of pixels.",
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        setting("max_pixels", rich_help_panel="Parsing", help="The same: the maximum.", show_default="the family's"),
    ] = None,
) -> None:  # fmt: skip
    """Score answers that were made elsewhere: no model, no GPU.

    Writes a run folder as 'evalkit run' does, for leaderboards and comparisons. Every sample of the split must have
    exactly one answer.

    Exit code: 0 if every answer was scored (except missing ones, if allowed), 1 if an image could not be read, 2 for a
    mistake in the command or its input.
    """
    given = {
        "tasks": tasks, "split": split, "data": data, "kind": kind, "out": out, "name": name,
        "protocol": protocol,
        "model": ["none"],  # the model in a settings file is for 'evalkit run'
    }  # fmt: skip
    chosen = effective(given, Path.cwd())
    options = ScoreOptions(split_list(predictions), family, allow_missing, min_pixels, max_pixels)
    raise typer.Exit(score_files(chosen, options))


SHARED = ("tasks", "split", "kind", "out", "name", "protocol")
"""The settings shared with ``evalkit run``."""


@dataclass(frozen=True)
class ScoreOptions:
    """The options that only ``evalkit score`` has."""

    predictions: Sequence[str]
    family: str | None = None
    allow_missing: bool = False
    min_pixels: int | None = None
    max_pixels: int | None = None


def score_files(effective: Effective, options: ScoreOptions) -> int:
    """Score every split with its file of answers; returns the exit code."""
    settings = effective.settings
    console = new_console(stderr=True, highlight=False)
    quiet_logging()

    # As in a run, every user mistake is found before a folder is created.
    splits = parse_tasks(settings.tasks, settings.split, settings.kind)
    files = pair_files(options.predictions, splits)
    family = None if options.family is None else registry.families.get(options.family)
    protocol = settings.protocol if family is not None else OFFICIAL  # final texts need no parsing
    if family is None and effective.sources["protocol"] == "command line":
        raise UserError(
            f"--protocol {settings.protocol}: without --family, answers are final texts, which no protocol parses; "
            "drop it, or name the model family with --family."
        )
    reader = Reader(family, options.min_pixels, options.max_pixels, protocol)
    for task, _ in splits:
        reader.check(task)
    name, source = (settings.data, effective.sources["data"]) if settings.data is not None else default_data(False)
    data = open_data(name)
    asked = f"protocol:{protocol}" if family is not None else ""
    jobs = [
        replace(load_job(task, split, data, limit=None, seed=0, protocol=protocol), asked=asked)
        for task, split in splits
    ]
    for job in jobs:
        check_scorable(job)
    texts = [
        match(job, read_predictions(file), str(file), allow_missing=options.allow_missing)
        for job, file in zip(jobs, files, strict=True)
    ]

    model = settings.name or files[0].stem
    run = settings.name or f"{model}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = RunFolder.create(Path(settings.out), run)
    manifest = Manifest(
        **environment(),
        splits={
            job.name: SplitRecord(reference=job.reference, samples=len(job.samples), asked=job.asked) for job in jobs
        },
        settings={
            **{key: getattr(settings, key) for key in SHARED},
            **asdict(options),
            "protocol": protocol,
            "data": name,
            "limit": None,
            "seed": 0,
        },
        sources={**{key: effective.sources[key] for key in SHARED}, "data": source},
        model={"name": model},
        family=None if family is None else {"name": family.name, "coordinates": family.coordinates},
        predictions=[file_digest(file) for file in files],
    )
    with folder.locked(), logging_to(folder), recording(folder, manifest, console):
        results: list[Result] = []
        header = {"run": run, "model": model, "family": None if family is None else family.name, "data": name}
        writer = ScoreWriter(folder, header)
        for job, found, file in zip(jobs, texts, files, strict=True):
            began = time.monotonic()
            results.append(score_split(job, found, reader, file, folder))
            if results[-1].failure is None:
                console.print(f"{job.name}: {results[-1].n:,} answers scored in {time.monotonic() - began:.1f} s")
            entries = write_scores(writer, results)
        manifest.state = report_end(folder, results, console)
    print_leaderboard(entries)
    missing = sum(len(job.samples) - len(found) for job, found in zip(jobs, texts, strict=True))
    failed = any(result.failure is not None for result in results)
    return 1 if failed or sum(result.errors for result in results) > missing else 0


def pair_files(predictions: Sequence[str], splits: Sequence[tuple[Task, str]]) -> list[Path]:
    """The file of each split, in order.

    Raises:
        UserError: the number of files is not the number of splits.
    """
    files = [Path(name).expanduser() for name in predictions]
    names = [f"{task.name}/{split}" for task, split in splits]
    if not files:
        raise UserError(f"no answers: give --predictions FILE for {', '.join(names)}.")
    if len(files) != len(names):
        raise UserError(
            f"--predictions: {len(files)} files for {len(names)} splits; give one file for each of "
            f"{', '.join(names)}, in this order, or name a split in --tasks (for example --tasks {names[0]})."
        )
    return files


def file_digest(file: Path) -> dict[str, str]:
    """A file's path and content hash, for the manifest."""
    return {"file": str(file.absolute()), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def score_split(job: Job, texts: Mapping[str, str], reader: Reader, file: Path, folder: RunFolder) -> Result:
    """Write a split's answers to the journal and score them."""
    records = reader.records(job, texts, file.name)
    with appending(folder.journal_path(job.task.name, job.split)) as journal:
        for record in records:
            journal.append(record)
    return score_job(job, records)
