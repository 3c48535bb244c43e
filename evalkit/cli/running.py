"""What ``evalkit run`` does once its settings are known: it joins the core, a backend and the store."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from evalkit import __version__, registry
from evalkit.checkpoint import BUNDLED, Checkpoint, resolve_checkpoint
from evalkit.data import check_pictures, open_data
from evalkit.errors import UserError
from evalkit.results import leaderboard as board
from evalkit.results.store import RunFolder, write_atomically
from evalkit.run import Job, Record, Result, load_job, parse_tasks, run_job
from evalkit.settings import Effective, RunSettings, default_data
from evalkit.types import Backend, Family, Task

LINE_EVERY_SECONDS = 60.0


def execute(effective: Effective) -> int:
    """Run every model on every task; returns the exit code."""
    settings = effective.settings
    console = Console(stderr=True, highlight=False)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.ERROR)

    # Everything the user can have got wrong is looked at before the first weight is loaded.
    wanted = parse_tasks(settings.tasks, settings.split, settings.kind)
    checkpoints = [resolve_checkpoint(model) for model in settings.model]
    families = [family_of(checkpoint) for checkpoint in checkpoints]
    if effective.sources["model"] == "default":
        console.print(
            "[yellow]no --model given: evaluating the bundled tiny checkpoint[/yellow] (a real but tiny model)"
        )
    jobs = {c.name: load_jobs(wanted, c, settings) for c in checkpoints}
    backend_factory = registry.backends.get(settings.backend)  # last: it imports torch, which takes seconds

    entries: list[board.Entry] = []
    failed = 0
    for checkpoint, family in zip(checkpoints, families, strict=True):
        data, source, loaded = jobs[checkpoint.name]
        name = settings.name or f"{checkpoint.name.replace('/', '--')}-{datetime.now():%Y%m%d-%H%M%S}"
        with _opened(backend_factory, checkpoint, settings, console) as backend:
            folder = RunFolder.create(Path(settings.out), name)
            manifest = make_manifest(effective, checkpoint, family, backend, data, source, loaded)
            with recorded(folder, manifest, console):
                results = run_all(loaded, family, backend, folder, console)
        header = {"run": name, "model": checkpoint.name, "family": family.name, "data": data}
        entries += finish(folder, manifest, header, results, console)
        failed += sum(r.errors for r in results)
    show(entries)
    return 1 if failed else 0


@contextmanager
def recorded(folder: RunFolder, manifest: Mapping[str, Any], console: Console) -> Iterator[None]:
    """The manifest says that the run goes on, and, should it not come to its end, that it was stopped."""
    folder.write_manifest({**manifest, "state": "running"})
    try:
        yield
    except BaseException as error:
        folder.write_manifest({**manifest, "state": f"stopped: {type(error).__name__}", "finished": now()})
        console.print(f"stopped; what was answered is in {folder.path}")
        raise


def finish(
    folder: RunFolder, manifest: Mapping[str, Any], header: Mapping[str, Any], results: list[Result], console: Console
) -> list[board.Entry]:
    """Write the scores, the leaderboard and how the run ended; returns the leaderboard's rows."""
    entries = write_scores(folder, header, results)
    errors = sum(r.errors for r in results)
    folder.write_manifest({**manifest, "state": "incomplete" if errors else "complete", "finished": now()})
    if errors:
        console.print(f"[red]{errors} samples failed[/red]; each error is in {folder.path}/*.jsonl")
    console.print(f"run folder: {folder.path}", soft_wrap=True)
    return entries


def write_scores(folder: RunFolder, header: Mapping[str, Any], results: list[Result]) -> list[board.Entry]:
    """Write the scores and the run's own leaderboard; returns its rows."""
    rows = folder.write_results(results, header)
    entries = board.entries_of(str(header["run"]), str(header["model"]), rows)
    write_atomically(folder.path / "leaderboard.md", board.to_markdown(entries))
    write_atomically(folder.path / "leaderboard.csv", board.to_csv(entries))
    return entries


def show(entries: Sequence[board.Entry]) -> None:
    """Print the leaderboard."""
    out = Console()
    out.print(board.to_table(entries))
    for note in board.notes(entries):
        out.print(note, style="dim", highlight=False, markup=False)


def family_of(checkpoint: Checkpoint) -> Family:
    """The family that a checkpoint's ``model_type`` belongs to.  Raises ``UserError`` when no family knows it."""
    known = registry.family_by_model_type()
    if checkpoint.model_type not in known:
        supported = ", ".join(sorted(known))
        raise UserError(
            f"--model {checkpoint.name}: the architecture {checkpoint.model_type!r} is not supported "
            f"(its config.json says model_type); supported are {supported}."
        )
    return registry.families.get(known[checkpoint.model_type])


def load_jobs(
    wanted: Sequence[tuple[Task, str]], checkpoint: Checkpoint, settings: RunSettings
) -> tuple[str, str, list[Job]]:
    """The data's name, why it is that one, and the splits with their samples read."""
    if settings.data is not None:
        name, source = settings.data, "given"
    else:
        name, source = default_data(checkpoint.name in BUNDLED)
    data = open_data(name)
    jobs = [load_job(t, s, data, limit=settings.limit, seed=settings.seed) for t, s in wanted]
    if not settings.allow_missing:
        for job in jobs:
            check_pictures((image for sample in job.samples for image in sample.images), job.name)
    return name, source, jobs


@contextmanager
def _opened(factory: Any, checkpoint: Checkpoint, settings: RunSettings, console: Console) -> Iterator[Backend]:
    began = time.monotonic()
    with console.status(f"loading {checkpoint.name}"):
        backend = factory.open(checkpoint, device=settings.device, dtype=settings.dtype, batch_size=settings.batch_size)
    about = backend.describe()
    console.print(
        f"[bold]{checkpoint.name}[/bold] on {about.get('device_name', about.get('device'))}, {about.get('dtype')}, "
        f"batches of {settings.batch_size} (loaded in {time.monotonic() - began:.1f} s)"
    )
    yield backend


def make_manifest(
    effective: Effective,
    checkpoint: Checkpoint,
    family: Family,
    backend: Backend,
    data: str,
    data_source: str,
    jobs: Sequence[Job],
) -> dict[str, Any]:
    """What ran, so that somebody else can run it again."""
    settings = asdict(effective.settings)
    settings["data"] = data
    sources = dict(effective.sources)
    if sources["data"] == "default":
        sources["data"] = data_source
    return {
        **circumstances(),
        "jobs": [job.reference for job in jobs],
        "settings": settings,
        "sources": sources,
        "model": {"name": checkpoint.name, "location": checkpoint.location, "model_type": checkpoint.model_type},
        "family": {"name": family.name, "coordinates": family.coordinates},
        "backend": dict(backend.describe()),
    }


def circumstances() -> dict[str, Any]:
    """What every manifest says of the process that wrote it."""
    return {
        "evalkit": __version__,
        "created": now(),
        "command": sys.argv,
        "cwd": str(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def run_all(jobs: Sequence[Job], family: Family, backend: Backend, folder: RunFolder, console: Console) -> list[Result]:
    """Every job in turn, each answer journalled as it arrives."""
    results = []
    with Reporter(console, jobs) as reporter:
        for job in jobs:
            with folder.journal(job.task.name, job.split) as journal, reporter.of(job) as seen:

                def on_record(record: Record, journal: Any = journal, seen: Any = seen) -> None:
                    journal.append(record)
                    seen(record)

                results.append(run_job(job, family, backend, on_record))
    return results


class Reporter:
    """Progress that tells the truth: bars in a terminal, else a line a minute and one per finished split."""

    def __init__(self, console: Console, jobs: Sequence[Job]) -> None:
        self.console = console
        self.progress: Progress | None = None
        self.bars: dict[str, TaskID] = {}
        if console.is_terminal:
            self.progress = Progress(
                TextColumn("{task.description:16s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[trouble]}"), console=console,
            )  # fmt: skip
            for job in jobs:
                self.bars[job.name] = self.progress.add_task(job.name, total=len(job.samples), start=False, trouble="")

    def __enter__(self) -> Reporter:
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    @contextmanager
    def of(self, job: Job) -> Iterator[Any]:
        began = last = time.monotonic()
        done = unparsed = errors = 0
        if self.progress is not None:
            self.progress.start_task(self.bars[job.name])

        def seen(record: Record) -> None:
            nonlocal done, unparsed, errors, last
            done += 1
            errors += record.response.finish == "error"
            unparsed += record.response.finish != "error" and not record.reading.parsed
            trouble = ", ".join(f"{n} {what}" for n, what in ((unparsed, "unparsed"), (errors, "errors")) if n)
            now = time.monotonic()
            if self.progress is not None:
                self.progress.update(self.bars[job.name], completed=done, trouble=trouble)
            elif now - last > LINE_EVERY_SECONDS:
                last = now
                left = (now - began) / done * (len(job.samples) - done)
                self.console.print(
                    f"{job.name}: {done:,}/{len(job.samples):,}, about {left / 60:.0f} min left {trouble}"
                )

        yield seen
        if self.progress is None:
            self.console.print(f"{job.name}: {done:,} answered in {time.monotonic() - began:.1f} s")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
