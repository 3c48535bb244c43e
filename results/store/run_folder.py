"""A run's folder: which one a command belongs to, who may write into it, and its manifest.

runs/<run>/
    manifest.json            what ran: identity, settings, model, versions, hardware, state, every command so far
    refcoco.testA.jsonl      one line per answer, appended as they arrive (results/store/journal.py)
    refcoco.testA.scores.jsonl   one line per scored sample
    (a file for the official server, under the task's name for it, in the place of scores that nobody can compute)
    scores.json              the aggregates
    leaderboard.md, .csv
    log.txt                  what was said, with times
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.identity import Parts, differences, digest

from .files import to_json, write_atomically

SCHEMA = 2
LOCK = ".lock"
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
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"the run {path} exists already; give another --name or --out, or delete it.")
        return cls(_made(out, path))

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A run's folder that is there.  Raises ``UserError`` where there is none."""
        if not (path / "manifest.json").is_file():
            raise UserError(f"{path} is no run: it has no manifest.json (give the folder that 'evalkit run' named).")
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes into the folder meanwhile; the lock goes with the process, however that ends.

        Raises:
            UserError: another process holds it.
        """
        # Not the package filelock: older releases (3.12 to 3.20, say) empty the file as they try, and with it the
        # holder's name; where a file system has no locks, it leaves a file behind that outlives a killed process.
        with (self.path / LOCK).open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read().strip() or "another process"
                raise UserError(
                    f"{self.path}: {who} is working on this run; wait for it, or give another --name."
                ) from None
            except OSError:
                pass  # a file system without locks: two processes at once are then the user's business
            file.truncate(0)
            file.write(f"evalkit, process {os.getpid()} on {socket.gethostname()},")
            file.flush()
            for left in self.path.iterdir():
                if _LEFT_BEHIND.fullmatch(left.name):  # half-written files of a process that was killed
                    left.unlink(missing_ok=True)
            yield

    def read_manifest(self) -> dict[str, Any]:
        """What ran, in the form that this evalkit writes.

        Raises:
            UserError: the file is damaged or from a newer evalkit.
        """
        content = read_versioned(self.path / "manifest.json", "a manifest", ("settings", "model", "cwd"))
        return _upgraded(content, self.path / "manifest.json")

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """Write what ran.  Raises ``RunFailed`` when it cannot be written."""
        write_atomically(self.path / "manifest.json", to_json({"schema": SCHEMA, **content}, indent=2) + "\n")

    def answered(self) -> bool:
        """Whether there are answers in it."""
        return any(path.stat().st_size for path in self.path.glob("*.jsonl"))

    def journal_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.jsonl"

    def scores_path(self, task: str, split: str) -> Path:
        return self.path / f"{task}.{split}.scores.jsonl"


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
class Wanted:
    """What a command is about: the model's name, the parts that all its splits share, and each split's own.

    ``stem`` is how a new folder's name begins; the model's name where it is None.
    """

    model: str
    parts: Parts
    splits: Mapping[str, Parts]
    stem: str | None = None

    def conflicts(self, manifest: Mapping[str, Any]) -> list[str]:
        """What keeps the command from continuing the run of ``manifest``; empty if nothing does."""
        if manifest.get("parts") is None:
            return ["it holds answers from elsewhere, scored"]
        found = differences(manifest["parts"], self.parts)
        for name, parts in self.splits.items():
            there = manifest["splits"].get(name)
            if there is not None:
                found += [f"{name}: {difference}" for difference in differences(there["parts"], parts)]
        return found


def choose(out: Path, wanted: Wanted, *, name: str | None, fresh: bool) -> tuple[RunFolder, list[str]]:
    """The folder that a command continues or begins, and what the user should know of that choice.

    Without ``name``, it is the run in ``out`` with the same identity, whatever it is called; else a new one.

    Raises:
        UserError: ``out/name`` is another run, or there cannot be a folder.
    """
    said: list[str] = []
    if name is None:
        path, nearest = _by_identity(out, wanted)
        if nearest:
            said.append(f"another run than {nearest[0]} ({'; '.join(nearest[1])})")
    else:
        path = out / name
    if path.is_dir() and any(child.name != LOCK for child in path.iterdir()):
        if fresh:
            said.append(_set_aside(RunFolder(path)))
        elif not (path / "manifest.json").is_file():
            raise UserError(f"{path} exists already and is no run; give another --name or --out.")
        elif conflicts := wanted.conflicts(RunFolder(path).read_manifest()):
            raise UserError(
                f"the run {path} is another one ({'; '.join(conflicts)}); give another --name, "
                "or --fresh to start anew."
            )
    return RunFolder(_made(out, path)), said


def _by_identity(out: Path, wanted: Wanted) -> tuple[Path, tuple[Path, list[str]] | None]:
    """The path of the run to continue; or a new path, with the run most like it and what differs."""
    stem = f"{(wanted.stem or wanted.model).replace('/', '--')}-{digest(wanted.parts)}"
    others: list[tuple[Path, list[str]]] = []
    for manifest_file in sorted(out.glob("*/manifest.json")):
        try:
            manifest = RunFolder(manifest_file.parent).read_manifest()
            conflicts = wanted.conflicts(manifest)
            named = manifest["model"]["name"]
        except (UserError, KeyError, TypeError, AttributeError):
            if manifest_file.parent.name == stem:
                raise
            continue  # somebody else's damaged run is not our concern
        if not conflicts:
            return manifest_file.parent, None
        if named == wanted.model and manifest.get("parts") is not None:
            others.append((manifest_file.parent, conflicts))
    path, number = out / stem, 1
    while path.exists():
        number += 1
        path = out / f"{stem}-{number}"
    return path, min(others, key=lambda other: len(other[1]), default=None)


def _set_aside(folder: RunFolder) -> str:
    """Move a run out of the way; nothing is deleted."""
    with folder.locked():
        kept = folder.path.parent / REPLACED / f"{folder.path.name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
        try:
            kept.parent.mkdir(exist_ok=True)
            folder.path.rename(kept)
        except OSError as error:
            raise UserError(f"--fresh: {folder.path} cannot be moved to {kept} ({error.strerror}).") from error
    return f"the run so far is kept in {kept}"


# ---------------------------------------------------------------------------------------------------------- reading


def read_versioned(path: Path, what: str, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON file with a schema.  Raises ``UserError`` when it is damaged, lacks ``keys``, or is too new."""
    try:
        content = json.loads(path.read_bytes())
        schema = content["schema"]
        newer = schema > SCHEMA
        absent = [key for key in keys if key not in content]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not {what} that evalkit wrote ({error!r}); run the evaluation again.") from error
    if newer:
        raise UserError(f"{path} has schema {schema}, and this evalkit reads up to {SCHEMA}; upgrade evalkit.")
    if absent:
        raise UserError(f"{path} is not {what} that evalkit wrote (it has no {absent[0]}); run the evaluation again.")
    return dict(content)


def _upgraded(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """A manifest as schema 2 has it; schema 1 had one list of jobs and one limit, and no identity."""
    try:
        if manifest["schema"] < SCHEMA:
            limit = manifest["settings"]["limit"]
            manifest["splits"] = {job: {"reference": job, "limit": limit} for job in manifest["jobs"]}
        splits = manifest["splits"].values()
        if not all(isinstance(split, dict) for split in splits):
            raise TypeError("splits")
        if manifest.get("parts") is not None and not all("parts" in split for split in splits):
            raise KeyError("parts")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); run the evaluation again.") from error
    return manifest
