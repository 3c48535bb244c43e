"""The run folder that ``evalkit score`` writes: a new one, or that of the same command that did not end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evalkit.errors import UserError
from evalkit.jobs import Job
from evalkit.jsonl import parse
from evalkit.results.store.files import to_json, write_failed
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.run_folder import RunFolder, make_run_folder

from .finish import ENDED


def folder_of(out: Path, run: str, manifest: Manifest) -> RunFolder:
    """A new folder ``out/run``, or that of the same command that did not end: the process was killed, for example.

    Raises:
        UserError: it is another run's folder, or cannot be created.
    """
    folder = RunFolder(out / run)
    if (folder.path / "manifest.json").is_file():
        with suppress(UserError):  # a corrupt manifest: the folder is not taken
            if _unfinished(folder, manifest):
                return RunFolder(make_run_folder(out, folder.path))
    return RunFolder.create(out, run)


def unfinished_name(out: Path, manifest: Manifest, model: str) -> str | None:
    """The name of the last folder that the same command left when it was stopped while a judge was asked, if any."""
    for path in sorted(out.glob("*/manifest.json"), reverse=True):
        folder = RunFolder(path.parent)
        if path.parent.name.startswith(f"{model}-"):
            with suppress(UserError):  # a corrupt manifest: the folder is not taken
                if _unfinished(folder, manifest):
                    return path.parent.name
    return None


def _unfinished(folder: RunFolder, manifest: Manifest) -> bool:
    """Whether a folder is what the command of ``manifest`` left when it did not end."""
    before = folder.read_manifest()
    same = (before.settings, before.predictions) == (parse(to_json(manifest.settings).encode()), manifest.predictions)
    own = any(Path(one["file"]).is_relative_to(folder.path.absolute()) for one in manifest.predictions or ())
    return same and not own and before.parts is None and before.state not in ENDED


def discard_scores(folder: RunFolder, jobs: Sequence[Job]) -> None:
    """Remove what a command that did not end has written: it is all computed again.

    Raises:
        RunFailed: it cannot be removed.
    """
    for job in jobs:
        task, name = job.task.name, job.split
        for path in (folder.journal_path(task, name), folder.scores_path(task, name), folder.path / "scores.json"):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise write_failed(path, error) from error
