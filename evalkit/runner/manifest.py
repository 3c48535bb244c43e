"""What a run folder says of the run itself: the manifest, and the log of what was said."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from evalkit.errors import RunFailed, UserError
from evalkit.results.store.run_folder import RunFolder
from evalkit.settings import Effective
from evalkit.version import __version__

from .plan import Plan

log = logging.getLogger("evalkit")

Recorder = Callable[[], None]


@contextmanager
def recorded(folder: RunFolder, manifest: dict[str, Any], console: Console) -> Iterator[Callable[[], None]]:
    """The manifest says that the run goes on and how it ended; the value writes it as it is now."""
    command = {"at": now(), "command": sys.argv, "cwd": str(Path.cwd())}
    manifest["history"] = [*manifest.get("history", []), command]
    manifest["state"] = "running"
    manifest.pop("finished", None)

    def record() -> None:
        folder.write_manifest(manifest)

    record()
    try:
        yield record
    except BaseException as error:
        manifest["state"] = f"failed: {error}" if isinstance(error, RunFailed) else f"stopped: {type(error).__name__}"
        if isinstance(error, Exception) and not isinstance(error, UserError):
            log.info("the run failed", exc_info=error)
        if folder.path.is_dir():
            console.print(f"what was answered is in {folder.path}", soft_wrap=True)
        raise
    finally:
        manifest["finished"] = command["until"] = now()
        command["state"] = manifest["state"] = "stopped" if manifest["state"] == "running" else manifest["state"]
        if folder.path.is_dir():
            with suppress(RunFailed):  # a full disk has been told of already
                record()


@contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """What is said and warned of goes to the run's ``log.txt`` too."""
    logging.raiseExceptions = False  # a full disk is told of once, by the journal
    try:
        handler = logging.FileHandler(folder.path / "log.txt", encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    log.info("evalkit %s: %s", __version__, " ".join(sys.argv))
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class OnStderr(logging.StreamHandler[Any]):
    """Writes to what stderr is at the moment: progress on a terminal has lines of its own below what is said."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def quiet_logging() -> None:
    """Warnings on the terminal, and no more than those."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[OnStderr()])
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao, where it is installed, sets it off


def tell(console: Console, sentence: str) -> None:
    """Say something on the terminal and in the log."""
    console.print(sentence, soft_wrap=True, markup=False)
    log.info("%s", sentence)


def make_manifest(effective: Effective, plan: Plan) -> dict[str, Any]:
    """What ran, so that somebody else can run it again."""
    settings = asdict(effective.settings)
    settings["data"] = plan.data
    sources = dict(effective.sources)
    if sources["data"] == "default":
        sources["data"] = plan.data_source
    return {
        **circumstances(),
        "settings": settings,
        "sources": sources,
        "family": {"name": plan.family.name, "coordinates": plan.family.coordinates},
        "shots": plan.shots,
        "exemplars": {name: pool.name for name, pool in plan.pools.items()},
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


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
