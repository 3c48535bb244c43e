"""The manifest of a run folder, and its log."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit.checkpoint import Checkpoint
from evalkit.errors import RunFailed, UserError
from evalkit.identity import Parts, digest
from evalkit.jobs import Job
from evalkit.logs import PrintableFormatter
from evalkit.results.store.files import NotWritable, open_regular, write_failed
from evalkit.results.store.manifest import Manifest, SplitRecord
from evalkit.results.store.run_folder import LOG, RunFolder
from evalkit.settings import Effective
from evalkit.version import __version__

from .plan import Plan

log = logging.getLogger("evalkit")

ManifestWriter = Callable[[], None]


@contextmanager
def recording(folder: RunFolder, manifest: Manifest, console: Console) -> Iterator[Callable[[], None]]:
    """Keep the manifest's ``state`` and ``history`` while a run is active; yields a function that writes it."""
    command: dict[str, Any] = {"at": now(), "command": sys.argv, "cwd": str(Path.cwd())}
    manifest.history = [*(manifest.history or []), command]
    manifest.state = "running"
    manifest.finished = None

    def record() -> None:
        folder.write_manifest(manifest)

    record()
    try:
        yield record
    except BaseException as error:
        manifest.state = f"failed: {error}" if isinstance(error, RunFailed) else f"stopped: {type(error).__name__}"
        if isinstance(error, Exception) and not isinstance(error, UserError):
            log.info("the run failed", exc_info=error)
        if folder.path.is_dir():
            console.print(f"Partial results: {folder.path}", soft_wrap=True)
        raise
    finally:
        manifest.finished = command["until"] = now()
        command["state"] = manifest.state = "stopped" if manifest.state == "running" else str(manifest.state)
        if folder.path.is_dir():
            with suppress(RunFailed):  # a full disk has been reported already
                record()


@contextmanager
def logging_to(folder: RunFolder) -> Iterator[None]:
    """Write messages and warnings to the run's ``log.txt`` too.  Raises ``UserError`` if that is a symbolic link."""
    logging.raiseExceptions = False  # the journal reports a full disk, once
    path = folder.path / LOG
    try:
        handler = logging.StreamHandler(os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8"))
    except NotWritable as error:
        raise write_failed(path, error) from error
    except OSError:
        yield
        return
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    log.info("evalkit %s: %s", __version__, " ".join(sys.argv))
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        with suppress(OSError):  # a full disk
            handler.stream.close()


def announce(console: Console, message: str, *, style: str | None = None) -> None:
    """Print a message and write it to the log."""
    console.print(message, soft_wrap=True, style=style)
    log.info("%s", message)


def make_manifest(effective: Effective, plan: Plan) -> dict[str, Any]:
    """What is needed to repeat a run: settings and their sources, family, examples, environment."""
    settings = asdict(effective.settings)
    settings["data"] = plan.data
    sources = dict(effective.sources)
    if sources["data"] == "default":
        sources["data"] = plan.data_source
    return {
        **environment(),
        "settings": settings,
        "sources": sources,
        "family": {"name": plan.family.name, "coordinates": plan.family.coordinates},
        "shots": plan.shots,
        **({"given_prompts": plan.given.to_dict()} if plan.given.to_dict() else {}),
        "shot_pools": {name: pool.name for name, pool in plan.pools.items()},
    }


def manifest_of(
    plan: Plan,
    checkpoint: Checkpoint,
    effective: Effective,
    parts: Parts,
    splits: Mapping[str, Parts],
    before: Manifest | None,
) -> Manifest:
    """The manifest of a run that starts, or is resumed after ``before``."""
    records = {
        job.name: SplitRecord(
            reference=job.reference,
            parts=splits[job.name],
            **choice_of(job),
            prompting=job.prompting,
            samples=len(job.samples),
            repeats=job.repeats,
        )
        for job in plan.jobs
    }
    manifest = Manifest(
        **make_manifest(effective, plan),
        identity=digest(parts),
        parts=parts,
        splits={**(before.splits if before else {}), **records},
        model={"name": checkpoint.name, "location": checkpoint.location, "model_type": checkpoint.model_type},
    )
    if before is not None:
        manifest.carry_over(before)
    if checkpoint.served is not None:
        manifest.server = checkpoint.served.to_dict()
    return manifest


def choice_of(job: Job) -> dict[str, Any]:
    """What a split's record says of how its samples were chosen."""
    chosen = job.chosen
    share = chosen.limit if isinstance(chosen.limit, str) else None
    return {
        "limit": chosen.limit if share is None else len(job.samples),
        "share": share,
        "where": chosen.where,
        "ids": None if chosen.ids is None else list(chosen.ids),
        "ids_name": chosen.ids_name or None,
    }


def environment() -> dict[str, Any]:
    """The process and machine that write a manifest."""
    return {
        "evalkit": __version__,
        "created": now(),
        "command": sys.argv,
        "cwd": str(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def now() -> str:
    """The current time in UTC, to the second, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")
