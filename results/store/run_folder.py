"""Run folders: their files, locks and manifests.  See ``run_choice.py`` for the one that a command resumes or creates.

runs/<run>/
    manifest.json            what ran: identity, settings, model, versions, hardware, state, every command so far
    refcoco.testA.jsonl      one line per answer, appended as they arrive (results/store/journal.py)
    refcoco.testA.scores.jsonl   one line per scored sample
    mm-vet.test.verdicts.jsonl   one line per verdict of a judge (results/store/verdicts.py)
    mme.test.imported.jsonl  one line per sample of another harness (evalkit/runner/importing.py)
    (instead of scores, a submission for the official server, if the references are not public)
    scores.json              the aggregates
    leaderboard.md, .csv
    log.txt                  messages with times
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import read_json

from .files import open_regular, to_json, write_atomically, write_failed
from .manifest import SCHEMA, Manifest
from .seal import CHECKSUM, check_seal, sealed

LOCK = ".lock"
LOG = "log.txt"
_LEFT_BEHIND = re.compile(r"\..+\.\d+")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @classmethod
    def create(cls, out: Path, name: str) -> RunFolder:
        """A new folder ``out/name``.

        Raises:
            UserError: it exists and is not empty, or is inside a Python package.
        """
        path = out / name
        if path.exists() and (not path.is_dir() or in_use(path)):
            raise UserError(f"the run {path} exists already; give another --name or --out, or delete it.")
        return cls(make_run_folder(out, path))

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The existing folder of a run.  Raises ``UserError`` if ``path`` is not one."""
        if not (path / "manifest.json").is_file():
            raise UserError(
                f"{path} is not a run folder (no manifest.json); give the folder that 'evalkit run' printed."
            )
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes; the lock ends with the process, even if that is killed.

        Raises:
            UserError: another process has it, or the lock is a symbolic link.
        RunFailed: the lock cannot be written.
        """
        # Not the package filelock: older releases (3.12 to 3.20, say) empty the file as they try, and with it the
        # holder's name; where a file system has no locks, it leaves a file behind that outlives a killed process.
        lock = self.path / LOCK
        try:
            file = open_regular(lock, os.O_RDWR)
        except OSError as error:
            raise write_failed(lock, error) from error
        try:
            self._lock(file)
            yield
        finally:
            os.close(file)

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"{self.path}: {who} is working on this run; wait for it, or give another --name."
            ) from None
        except OSError:
            pass  # a file system without locks, such as some network drives: the user must not run two at once
        with suppress(OSError):  # on a full disk the lock holds without its holder's name
            os.ftruncate(file, 0)
            os.pwrite(file, f"evalkit, process {os.getpid()} on {socket.gethostname()},".encode(), 0)
        try:
            for left in self.path.iterdir():
                if _LEFT_BEHIND.fullmatch(left.name):  # temporary files of a killed process
                    left.unlink(missing_ok=True)
        except OSError as error:
            raise write_failed(self.path, error) from error

    def read_manifest(self) -> Manifest:
        """The manifest, upgraded to the current schema.

        Raises:
            UserError: the file is corrupt or from a newer evalkit.
        """
        path = self.path / "manifest.json"
        content = read_versioned(path, "a manifest", ("settings", "model", "cwd"))
        check_seal(content, path, f'restore it, or delete its line "{CHECKSUM}" if the change is intended')
        try:
            return Manifest.from_dict(content)
        except ValueError as error:
            path = self.path / "manifest.json"
            raise UserError(f"{path} is corrupt ({error}); run the evaluation again.") from error

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest.  Raises ``RunFailed`` if it cannot be written."""
        write_atomically(self.path / "manifest.json", to_json(sealed(manifest.to_dict()), indent=2) + "\n")

    def answered(self) -> bool:
        """Whether the folder has answers."""
        return any(path.stat().st_size for path in self.path.glob("*.jsonl"))

    def journal_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.jsonl"

    def scores_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.scores.jsonl"

    def verdicts_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.verdicts.jsonl"

    def imported_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.imported.jsonl"

    def copy_journal(self, source: RunFolder, task: str, split: str) -> None:
        """Copy a journal of the run ``source``, if it exists.  Raises ``RunFailed`` if it cannot be written."""
        journal = source.journal_path(task, split)
        if journal.is_file():
            write_atomically(self.journal_path(task, split), journal.read_bytes())


def in_use(folder: Path) -> bool:
    """Whether a folder has other files than those of a run that was stopped before its first manifest."""
    return any(path.name not in (LOCK, LOG) and not _LEFT_BEHIND.fullmatch(path.name) for path in folder.iterdir())


def make_run_folder(out: Path, path: Path) -> Path:
    """Create ``path`` in ``out``.  Raises ``UserError`` if it cannot be created or is inside a Python package."""
    for folder in (out, *out.resolve().parents):
        if (folder / "__init__.py").exists():
            raise UserError(f"--out {out}: {folder} is a Python package; runs go elsewhere (runs/ by default).")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "it is not writable")
    except OSError as error:
        raise UserError(f"--out {out}: the folder {path} cannot be created ({error.strerror}).") from error
    return path


def read_versioned(path: Path, what: str, keys: Sequence[str]) -> dict[str, Any]:
    """Read a JSON file with a schema.  Raises ``UserError`` if it is corrupt, lacks ``keys``, or is too new."""
    try:
        content = read_json(path, own=True)
        schema = content["schema"]
        newer = schema > SCHEMA
        missing = [key for key in keys if key not in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not {what} that evalkit wrote ({error!r}); run the evaluation again.") from error
    if newer:
        raise UserError(f"{path} has schema {schema}, and this evalkit reads up to {SCHEMA}; upgrade evalkit.")
    if missing:
        raise UserError(f"{path} is not {what} that evalkit wrote (it has no {missing[0]}); run the evaluation again.")
    return dict(content)
