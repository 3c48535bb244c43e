"""``manifest.json``: what ran in a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from evalkit.choosing.sample_filter import SampleFilter, filter_from_record

from .seal import CHECKSUM

SCHEMA = 2
REQUIRED: Mapping[str, type] = {"settings": dict, "model": dict, "cwd": str, "splits": dict}
"""The keys without which a run can be neither resumed nor rescored, and their types."""
FILE_KEYS: Mapping[str, str] = {"prompting": "asked", "shot_pools": "exemplars"}
"""Attributes whose key in the file is the name from the first releases."""


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """A split of a task in a run.

    Attributes:
        reference: what ``--tasks`` calls it, from any folder.
        limit: of samples, ``--limit``; with ``share``, what that came to.
        share: a limit that was given as a percentage.
        where, ids, ids_name: what ``--where`` and ``--ids`` chose by: expression, ids, name of their file.
        parts: the split's part of the run identity; None for answers from a predictions file.
        prompting: the signature's part about prompts.
        samples: how many were chosen.
        repeats: the number of answers to each that are scored.
        signature: of the score, once there is one.
        extra: keys that this version does not know.
    """

    reference: str
    limit: int | None = None
    share: str | None = None
    where: str | None = None
    ids: Sequence[str] | None = None
    ids_name: str | None = None
    parts: Mapping[str, Any] | None = None
    prompting: str = ""
    samples: int | None = None
    repeats: int = 1
    signature: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, name: str, content: Any) -> SplitRecord:
        """Raises ``ValueError``, which names the key, if it is not a split's record."""
        if not isinstance(content, Mapping) or not isinstance(content.get("reference"), str):
            raise ValueError(f"the split {name!r} has no 'reference'")
        filter_from_record(content, name)  # refuses a wrong one
        repeats = content.get("repeats", 1)
        if type(repeats) is not int or repeats < 1:
            raise ValueError(f"the 'repeats' of the split {name!r} is {repeats!r}")
        if not isinstance(content.get("parts") or {}, Mapping):
            raise ValueError(f"the 'parts' of the split {name!r} are not an object")
        return cls(**_arguments(cls, content))

    @property
    def chosen(self) -> SampleFilter:
        """How its samples were chosen."""
        return filter_from_record(self.to_dict(), self.reference)

    def to_dict(self) -> dict[str, Any]:
        """The record as ``manifest.json`` has it."""
        optional = {
            "parts": self.parts,
            FILE_KEYS["prompting"]: self.prompting or None,
            **{key: getattr(self, key) for key in ("share", "where", "ids", "ids_name", "samples")},
            "repeats": self.repeats if self.repeats > 1 else None,
            "signature": self.signature,
        }
        kept = {key: value for key, value in optional.items() if value is not None}
        return {"reference": self.reference, "limit": self.limit, **kept, **self.extra}


@dataclass(kw_only=True)
class Manifest:
    """What ran: identity, settings, model, versions, hardware, state, and every command so far.

    A run updates ``backend``, ``history``, ``state`` and ``finished`` while it is active.

    Attributes:
        schema: of the folder's files; an old run that is resumed keeps its own.
        settings, sources: the effective settings, and where each came from.
        family: name and coordinate convention; None where answers were not parsed by a family.
        given_prompts: the user's texts of ``--system``, ``--prompt`` and ``--chat-template``.
        shots, shot_pools: their number, and the pool of each split's few-shot examples.
        identity, parts: the run identity, and the parts it is a digest of; None for answers from a predictions file.
        splits: by ``task/split``.
        model: name, location and ``model_type``.
        server: the server's description of its model.
        history: every command, with its time, folder and end.
        state: ``running``, ``complete``, ``incomplete``, ``stopped`` or ``failed: …``.
        predictions: the scored files and their digests.
        rescored: when, by which version, and on which data.
        judge: the judge whose verdicts the scores are from.
        imported: by ``task/split``, the harness that made the answers: its version, task, model, score and files.
        extra: keys that this version does not know.
    """

    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    cwd: str
    splits: dict[str, SplitRecord]
    schema: int = SCHEMA
    evalkit: str | None = None
    created: str | None = None
    command: list[str] | None = None
    python: str | None = None
    platform: str | None = None
    cpus: int | None = None
    sources: Mapping[str, Any] | None = None
    family: Mapping[str, Any] | None = None
    given_prompts: Mapping[str, Any] | None = None
    shots: int | None = None
    shot_pools: Mapping[str, str] | None = None
    identity: str | None = None
    parts: Mapping[str, Any] | None = None
    server: Mapping[str, Any] | None = None
    backend: Mapping[str, Any] | None = None
    history: list[dict[str, Any]] | None = None
    state: str | None = None
    finished: str | None = None
    predictions: list[dict[str, Any]] | None = None
    rescored: Mapping[str, Any] | None = None
    judge: Mapping[str, Any] | None = None
    imported: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Manifest:
        """The manifest that ``to_dict`` wrote, in this or an older version.

        Raises:
            ValueError: a key is missing or of another type; the message names it.
        """
        content = _upgraded(dict(content))
        for key, kind in REQUIRED.items():
            if not isinstance(content.get(key), kind):
                raise ValueError(f"it has no {key!r}" if key not in content else f"its {key!r} is {content[key]!r}")
        for key in ("family", "given_prompts", "parts", "server", "backend", "rescored", "judge", "imported"):
            if not isinstance(content.get(key) or {}, Mapping):
                raise ValueError(f"its {key!r} is {content[key]!r}")
        splits = {name: SplitRecord.from_dict(name, split) for name, split in content["splits"].items()}
        if content.get("parts") is not None and any(split.parts is None for split in splits.values()):
            raise ValueError("a split has no 'parts'")
        return cls(**_arguments(cls, {**content, "splits": splits}))

    def to_dict(self) -> dict[str, Any]:
        """The manifest as ``manifest.json`` has it."""
        own = [f.name for f in fields(self) if f.name not in ("schema", "splits", "extra")]
        known = {FILE_KEYS.get(name, name): getattr(self, name) for name in own}
        written = {key: value for key, value in known.items() if value is not None or key in ("family", "cpus")}
        splits = {name: split.to_dict() for name, split in self.splits.items()}
        return {"schema": self.schema, **written, "splits": splits, **self.extra}

    def carry_over(self, before: Manifest) -> None:
        """Keep the schema, first time, history and unknown keys of the resumed run."""
        self.schema = before.schema
        self.created = before.created or self.created
        for name in ("server", "backend", "history", "state", "finished", "predictions", "rescored", "judge"):
            setattr(self, name, getattr(before, name))
        self.extra = before.extra

    def kind_of(self, split: str) -> str | None:
        """The kind of a split's task (``evalkit.types.Kind``), if recorded."""
        return _text(self._part(split, "kind"))

    def annotations_of(self, split: str) -> str | None:
        """The digest of a split's questions and references, if recorded."""
        return _text(self._part(split, "annotations"))

    def version_of(self, split: str) -> Any:
        """The version of a split's task, if recorded."""
        return self._part(split, "version")

    def _part(self, split: str, name: str) -> Any:
        record = self.splits.get(split)
        return None if record is None or record.parts is None else record.parts.get(name)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _arguments(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    names = {FILE_KEYS.get(f.name, f.name): f.name for f in fields(kind) if f.name != "extra"}
    known = {names[key]: value for key, value in content.items() if key in names}
    return {**known, "extra": {key: value for key, value in content.items() if key not in (*names, CHECKSUM)}}


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """The content in schema 2; schema 1 had a list of jobs, one limit, and no identity."""
    if content.get("schema", SCHEMA) < SCHEMA:
        try:
            limit = content["settings"]["limit"]
            content["splits"] = {job: {"reference": job, "limit": limit} for job in content["jobs"]}
        except (KeyError, TypeError) as error:
            raise ValueError(f"schema 1 without {error}") from error
    return content
