"""What ``evalkit score`` does once its options are known: it joins the core's reading of answers and the store."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.jobs import OFFICIAL, Job, load_job, parse_tasks
from evalkit.predictions import Reader, match, read_predictions
from evalkit.results.store.journal import appending
from evalkit.results.store.run_folder import RunFolder
from evalkit.runner.finish import end, show, write_scores
from evalkit.runner.manifest import circumstances, logged, quiet_logging, recorded
from evalkit.scoring import Result, score_job
from evalkit.settings import Effective, default_data

SHARED = ("tasks", "split", "kind", "out", "name", "protocol")
"""The settings that mean the same as in a run."""


@dataclass(frozen=True)
class Given:
    """The options of ``evalkit score`` that ``evalkit run`` has not."""

    predictions: Sequence[str]
    family: str | None = None
    allow_missing: bool = False
    min_pixels: int | None = None
    max_pixels: int | None = None


def execute(effective: Effective, given: Given) -> int:
    """Score every split with its file of answers; returns the exit code."""
    settings = effective.settings
    console = Console(stderr=True, highlight=False)
    quiet_logging()

    # As in a run, everything the user can have got wrong is looked at before a folder is made.
    wanted = parse_tasks(settings.tasks, settings.split, settings.kind)
    files = pair_files(given.predictions, wanted)
    family = None if given.family is None else registry.families.get(given.family)
    protocol = settings.protocol if family is not None else OFFICIAL  # final texts are read by none
    if family is None and effective.sources["protocol"] == "command line":
        raise UserError(
            f"--protocol {settings.protocol}: without --family answers are final texts, which are not read by a "
            "protocol; leave it out, or name the family that gave them."
        )
    reader = Reader(family, given.min_pixels, given.max_pixels, protocol)
    for task, _ in wanted:
        reader.check(task)
    name, source = (settings.data, effective.sources["data"]) if settings.data is not None else default_data(False)
    data = open_data(name)
    asked = f"protocol:{protocol}" if family is not None else ""
    jobs = [
        replace(load_job(task, split, data, limit=None, seed=0, protocol=protocol), asked=asked)
        for task, split in wanted
    ]
    texts = [
        match(job, read_predictions(file), str(file), allow_missing=given.allow_missing)
        for job, file in zip(jobs, files, strict=True)
    ]

    model = settings.name or files[0].stem
    run = settings.name or f"{model}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = RunFolder.create(Path(settings.out), run)
    manifest = {
        **circumstances(),
        "splits": {
            job.name: {
                "reference": job.reference,
                "limit": None,
                "samples": len(job.samples),
                "asked": job.asked,
            }
            for job in jobs
        },
        "settings": {
            **{key: getattr(settings, key) for key in SHARED},
            **asdict(given),
            "protocol": protocol,
            "data": name,
            "limit": None,
            "seed": 0,
        },
        "sources": {**{key: effective.sources[key] for key in SHARED}, "data": source},
        "model": {"name": model},
        "family": None if family is None else {"name": family.name, "coordinates": family.coordinates},
        "predictions": [described(file) for file in files],
    }
    with folder.locked(), logged(folder), recorded(folder, manifest, console):
        results = []
        for job, found, file in zip(jobs, texts, files, strict=True):
            began = time.monotonic()
            results.append(score_split(job, found, reader, file, folder))
            console.print(f"{job.name}: {results[-1].n:,} answers scored in {time.monotonic() - began:.1f} s")
        header = {"run": run, "model": model, "family": None if family is None else family.name, "data": name}
        entries = write_scores(folder, header, results)
        manifest["state"] = end(folder, results, console)
    show(entries)
    missing = sum(len(job.samples) - len(found) for job, found in zip(jobs, texts, strict=True))
    return 1 if sum(result.errors for result in results) > missing else 0


def pair_files(predictions: Sequence[str], wanted: Sequence[tuple[Task, str]]) -> list[Path]:
    """The file of each split, in the order of the splits.  Raises ``UserError`` when their numbers differ."""
    files = [Path(name).expanduser() for name in predictions]
    splits = [f"{task.name}/{split}" for task, split in wanted]
    if not files:
        raise UserError(f"no answers were given: give --predictions FILE for {', '.join(splits)}.")
    if len(files) != len(splits):
        raise UserError(
            f"--predictions: {len(files)} given for {len(splits)} splits; give one file for each of "
            f"{', '.join(splits)}, in this order, or name a split in --tasks (for example --tasks {splits[0]})."
        )
    return files


def described(file: Path) -> dict[str, str]:
    """What a record says of a file of given."""
    return {"file": str(file.absolute()), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def score_split(job: Job, texts: Mapping[str, str], reader: Reader, file: Path, folder: RunFolder) -> Result:
    """Journal a split's answers and score them."""
    records = reader.records(job, texts, file.name)
    with appending(folder.journal_path(job.task.name, job.split)) as journal:
        for record in records:
            journal.append(record)
    return score_job(job, records)
