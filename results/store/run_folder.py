"""Run folders: choosing the one to resume or create, locking it, and its manifest.

runs/<run>/
    manifest.json            what ran: identity, settings, model, versions, hardware, state, every command so far
    refcoco.testA.jsonl      one line per answer, appended as they arrive (results/store/journal.py)
    refcoco.testA.scores.jsonl   one line per scored sample
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.identity import Parts, differences, digest
from evalkit.jsonl import read_json

from .files import open_regular, to_json, write_atomically, write_failed
from .manifest import SCHEMA, Manifest

LOCK = ".lock"
LOG = "log.txt"
REPLACED = ".replaced"
_LEFT_BEHIND = re.compile(r"\..+\.\d+")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @classmethod
    def create(cls, out: Path, name: str) -> RunFolder:
        """A new folder ``out/name``.

        Raises:
            UserError: it exists with something in it, or lies inside a Python package.
        """
        path = out / name
        if path.exists() and (not path.is_dir() or _in_use(path)):
            raise UserError(f"the run {path} exists already; give another --name or --out, or delete it.")
        return cls(_made(out, path))

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
            UserError: another process holds it, or the lock is a symbolic link.
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
        content = read_versioned(self.path / "manifest.json", "a manifest", ("settings", "model", "cwd"))
        try:
            return Manifest.from_dict(content)
        except ValueError as error:
            path = self.path / "manifest.json"
            raise UserError(f"{path} is corrupt ({error}); run the evaluation again.") from error

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest.  Raises ``RunFailed`` if it cannot be written."""
        write_atomically(self.path / "manifest.json", to_json(manifest.to_dict(), indent=2) + "\n")

    def answered(self) -> bool:
        """Whether the folder has answers."""
        return any(path.stat().st_size for path in self.path.glob("*.jsonl"))

    def journal_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.jsonl"

    def scores_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.scores.jsonl"


def _in_use(folder: Path) -> bool:
    """Whether a folder has more than what a run leaves that was stopped before its first manifest."""
    return any(path.name not in (LOCK, LOG) and not _LEFT_BEHIND.fullmatch(path.name) for path in folder.iterdir())


def _made(out: Path, path: Path) -> Path:
    for folder in (out, *out.resolve().parents):
        if (folder / "__init__.py").exists():
            raise UserError(f"--out {out}: {folder} is a Python package; runs go elsewhere (runs/ by default).")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "it is not writable")
    except OSError as error:
        raise UserError(f"--out {out}: the folder {path} cannot be made ({error.strerror}).") from error
    return path


# -------------------------------------------------------------------------------------------------- which run it is


@dataclass(frozen=True)
class FolderSpec:
    """The identity of the run that a command asks for.

    Attributes:
        model: the model's name.
        parts: the parts of the identity that all splits share.
        splits: each split's own parts.
        stem: how a new folder's name begins; None for the model's name.
        earlier: by split, values of parts that earlier versions recorded for the same.
    """

    model: str
    parts: Parts
    splits: Mapping[str, Parts]
    stem: str | None = None
    earlier: Mapping[str, Parts] = field(default_factory=dict)

    def conflicts(self, manifest: Manifest) -> list[str]:
        """Why the command cannot resume the run of ``manifest``; empty if it can."""
        if manifest.parts is None:
            return ["it was created by 'evalkit score'"]
        found = differences(manifest.parts, self.parts)
        for name, parts in self.splits.items():
            there = manifest.splits.get(name)
            if there is not None and there.parts is not None:
                same = {key: old for key, old in self.earlier.get(name, {}).items() if there.parts.get(key) == old}
                found += [f"{name}: {difference}" for difference in differences(there.parts, {**parts, **same})]
        return found


def choose(out: Path, spec: FolderSpec, *, name: str | None, fresh: bool) -> tuple[RunFolder, list[str]]:
    """The folder that a command resumes or creates, and messages about that choice.

    Without ``name``, it is the run in ``out`` with the same identity, whatever its name; else a new folder.

    Raises:
        UserError: ``out/name`` is a different run, or the folder cannot be created.
    """
    said: list[str] = []
    if name is None:
        path, nearest = _by_identity(out, spec)
        if nearest:
            said.append(f"another run than {nearest[0]} ({'; '.join(nearest[1])})")
    else:
        path = out / name
    if path.is_dir() and _in_use(path):
        if fresh:
            said.append(_set_aside(RunFolder(path)))
        elif not (path / "manifest.json").is_file():
            raise UserError(f"{path} exists already and is not a run folder; give another --name or --out.")
        elif conflicts := spec.conflicts(RunFolder(path).read_manifest()):
            raise UserError(
                f"the run {path} is another one ({'; '.join(conflicts)}); give another --name, "
                "or --fresh to start over."
            )
    return RunFolder(_made(out, path)), said


def _by_identity(out: Path, spec: FolderSpec) -> tuple[Path, tuple[Path, list[str]] | None]:
    """The path of the run to resume; or a new path, with the most similar run and how that differs."""
    stem = f"{(spec.stem or spec.model).replace('/', '--')}-{digest(spec.parts)}"
    others: list[tuple[Path, list[str]]] = []
    for manifest_file in sorted(out.glob("*/manifest.json")):
        try:
            manifest = RunFolder(manifest_file.parent).read_manifest()
            conflicts = spec.conflicts(manifest)
            named = manifest.model["name"]
        except (UserError, KeyError, TypeError, AttributeError):
            if manifest_file.parent.name == stem:
                raise
            continue  # another run that is corrupt is no obstacle
        if not conflicts:
            return manifest_file.parent, None
        if named == spec.model and manifest.parts is not None:
            others.append((manifest_file.parent, conflicts))
    path, number = out / stem, 1
    while path.exists() and not (path.is_dir() and not _in_use(path)):
        number += 1
        path = out / f"{stem}-{number}"
    return path, min(others, key=lambda other: len(other[1]), default=None)


def _set_aside(folder: RunFolder) -> str:
    """Move a run out of the way, without deleting anything."""
    with folder.locked():
        kept = folder.path.parent / REPLACED / f"{folder.path.name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
        try:
            kept.parent.mkdir(exist_ok=True)
            folder.path.rename(kept)
        except OSError as error:
            raise UserError(f"--fresh: {folder.path} cannot be moved to {kept} ({error.strerror}).") from error
    return f"the existing run was moved to {kept}"


# ---------------------------------------------------------------------------------------------------------- reading


def read_versioned(path: Path, what: str, keys: Sequence[str]) -> dict[str, Any]:
    """Read a JSON file with a schema.  Raises ``UserError`` if it is corrupt, lacks ``keys``, or is too new."""
    try:
        content = read_json(path)
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
