"""Which run folder a command resumes or creates.

A command resumes the run of its identity and model.  A model that was renamed or moved resumes its run.  A copy of a
checkpoint, which exists next to the original, has its own run and reuses the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from evalkit.errors import UserError
from evalkit.identity import Parts, differences, digest

from .manifest import SCHEMA, Manifest
from .run_folder import RunFolder, in_use, make_run_folder

REPLACED = ".replaced"
"""Folder for runs that ``--fresh`` replaced."""
LONGEST_STEM = 200
"""Bytes; file systems allow 255 for a name, and the identity and a number follow."""


@dataclass(frozen=True)
class FolderSpec:
    """The identity of the run that a command asks for.

    Attributes:
        model: the model's name.
        parts: the parts of the identity that all splits share.
        splits: each split's own parts.
        stem: how a new folder's name begins; None for the model's name.
        location: the checkpoint's folder or address; None if unknown.
        earlier: by split, values of parts that earlier versions recorded for the same.
    """

    model: str
    parts: Parts
    splits: Mapping[str, Parts]
    stem: str | None = None
    location: str | None = None
    earlier: Mapping[str, Parts] = field(default_factory=dict)

    def conflicts(self, manifest: Manifest) -> list[str]:
        """Why the command cannot resume the run of ``manifest``; empty if it can."""
        if manifest.parts is None:
            return ["it was created by 'evalkit import'" if manifest.imported else "it was created by 'evalkit score'"]
        found = differences(manifest.parts, self.parts)
        for name, parts in self.splits.items():
            there = manifest.splits.get(name)
            if there is not None and there.parts is not None:
                same = {key: old for key, old in self.earlier.get(name, {}).items() if there.parts.get(key) == old}
                found += [f"{name}: {difference}" for difference in differences(there.parts, {**parts, **same})]
        return found

    def is_related(self, manifest: Manifest) -> bool:
        """Whether the run of ``manifest`` is of the same model, or of one in the same place, on a split of these."""
        there = manifest.model
        same = there["name"] == self.model and (
            self.location in (None, there.get("location"))
            or (manifest.parts or {}).get("weights") == self.parts.get("weights")
        )
        return same and manifest.parts is not None and not self.splits.keys().isdisjoint(manifest.splits)


@dataclass(frozen=True)
class RunChoice:
    """The folder that a command resumes or creates.

    Attributes:
        messages: what to print about it.
        why_new: why a similar run is not resumed; empty if there is none.
        answers_from: a run of an identical model with another name, whose answers a new run reuses.
    """

    folder: RunFolder
    messages: tuple[str, ...] = ()
    why_new: str = ""
    answers_from: RunFolder | None = None


def choose(out: Path, spec: FolderSpec, *, name: str | None, fresh: bool) -> RunChoice:
    """The folder that a command resumes or creates.

    Without ``name``, it is the run in ``out`` with the same identity and model, whatever the folder's name; else a new
    folder, which is named after the model.

    Raises:
        UserError: ``out/name`` is a different run, or the folder cannot be created.
    """
    found = _by_identity(out, spec) if name is None else RunChoice(RunFolder(out / name))
    path, messages = found.folder.path, found.messages
    if path.is_dir() and in_use(path):
        if fresh:
            messages = (_set_aside(RunFolder(path)),)
        elif not (path / "manifest.json").is_file():
            raise UserError(f"{path} exists already and is not a run folder; give another --name or --out.")
        elif conflicts := spec.conflicts(RunFolder(path).read_manifest()):
            raise UserError(
                f"the run {path} differs from this command ({'; '.join(conflicts)}); give another --name, "
                "or --fresh to start over."
            )
    source = None if fresh else found.answers_from
    if source is not None:
        messages = (f"{spec.model} is identical to the model of {source.path}: its answers are reused",)
    return RunChoice(RunFolder(make_run_folder(out, path)), messages, found.why_new, source)


def _by_identity(out: Path, spec: FolderSpec) -> RunChoice:
    """The run to resume; or a new path, with a run whose answers can be reused, or why the nearest run cannot."""
    stem = f"{_as_file_name(spec.stem or spec.model)}-{digest(spec.parts)}"
    renamed: list[RunChoice] = []
    identical: list[RunFolder] = []
    others: list[tuple[int, str]] = []
    for manifest_file in sorted(out.glob("*/manifest.json")):
        folder = RunFolder(manifest_file.parent)
        try:
            manifest = folder.read_manifest()
            conflicts = spec.conflicts(manifest)
            model, location = manifest.model["name"], manifest.model.get("location")
            related = spec.is_related(manifest)
        except (UserError, KeyError, TypeError, AttributeError):
            if folder.path.name == stem:
                raise
            continue  # a corrupt run does not prevent another one
        if not conflicts and model == spec.model:
            return RunChoice(folder)
        if not conflicts and not (isinstance(location, str) and Path(location).exists()):
            renamed.append(RunChoice(folder, (f"resuming {folder.path}: its model {model} is now {spec.model}",)))
        elif not conflicts and manifest.schema == SCHEMA:
            identical.append(folder)
        elif related:
            others.append((len(conflicts), f"new run, since {folder.path} differs ({'; '.join(conflicts)})"))
    if renamed:
        return renamed[0]
    path, number = out / stem, 1
    while path.exists() and not (path.is_dir() and not in_use(path)):
        number += 1
        path = out / f"{stem}-{number}"
    if identical:
        return RunChoice(RunFolder(path), answers_from=identical[0])
    return RunChoice(RunFolder(path), why_new=min(others, default=(0, ""), key=lambda other: other[0])[1])


def _as_file_name(text: str) -> str:
    """``text`` as the beginning of a file name: short, and on one line."""
    name = "".join(character if character.isprintable() else "_" for character in text.replace("/", "--"))
    return name.encode(errors="replace")[:LONGEST_STEM].decode(errors="ignore")


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
