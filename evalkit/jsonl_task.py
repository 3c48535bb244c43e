"""Custom task files: your own data without a plugin, ``--tasks ./mine.jsonl``, one sample per line.

    {"evalkit": 1, "kind": "vqa", "metric": "vqa_accuracy"}                          (optional first line)
    {"id": "7", "image": "images/7.jpg", "question": "What is this?", "answers": ["a cat", "cat"]}

``image`` is relative to the file.  By kind, a line also has:

- ``vqa``, ``document``: ``question`` and ``answers``, a list of texts;
- ``choice``: ``question``, ``options`` (texts in order), and ``answer``, the right one's letter or its text;
- ``grounding``: ``question``, the referring expression, and ``box``, ``[x1, y1, x2, y2]`` in pixels of the image;
- ``caption``: ``captions``, a list of texts.

The kind is given in the first line or by ``--kind``; without either, it follows from the first sample's fields
(``answers`` then means ``vqa``).  All other fields of a line become the sample's ``meta``, where metrics look for their
breakdowns (``answer_type``, ``category``, ``domain``).  Samples of one image are one cluster.

The task has the file's name without ``.jsonl``, and one split, ``own``.  The signature contains the file's digest, so
that scores of different files of one name are not comparable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from evalkit import registry
from evalkit.data import Data
from evalkit.errors import UserError
from evalkit.images import PathImage
from evalkit.interfaces import Task
from evalkit.jsonl import objects, read_bytes
from evalkit.types import Decoding, Kind, Sample, Split

SUFFIX = ".jsonl"
SPLIT = "own"
FORMAT = 1
HEADER = ("evalkit", "kind", "metric")
REFERENCES: Mapping[Kind, Sequence[str]] = {
    "vqa": ("answers",),
    "document": ("answers",),
    "caption": ("captions",),
    "choice": ("options", "answer"),
    "grounding": ("box",),
}
METRICS: Mapping[Kind, str] = {
    "vqa": "exact_match",
    "document": "anls",
    "caption": "cider",
    "choice": "choice_accuracy",
    "grounding": "iou",
}
ANNOTATORS = 10
"""With this many answers per question, ``vqa`` files are scored with VQA accuracy."""
NEW_TOKENS: Mapping[Kind, int] = {"vqa": 10, "document": 100, "caption": 30, "choice": 10, "grounding": 28}
FAR = 1e9
"""Limit of coordinates in pixels; refuses infinities and overflow."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class JsonlTask(Task):
    """A task made of one file; see the module.  ``path`` is absolute, ``digest`` is that of the content."""

    version = 1
    default_splits: Sequence[str] = (SPLIT,)

    def __init__(self, path: Path, kind: Kind, metric: str, digest: str, samples: Sequence[Sample]) -> None:
        self.name = path.name.removesuffix(SUFFIX)
        self.path = path
        self.digest = digest
        self.kind: Kind = kind
        self.metric = metric
        self.splits: Mapping[str, Split] = {SPLIT: Split(len(samples), str(path))}
        self.decoding = Decoding(max_new_tokens=NEW_TOKENS[kind])
        self.layout: Sequence[str] = (str(path),)
        self._samples = samples

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The samples in the file's order; ``data`` is ignored, since the file gives the paths of its images."""
        yield from self._samples


def is_jsonl(name: str) -> bool:
    """Whether a name in ``--tasks`` is a custom task file."""
    return name.endswith(SUFFIX)


def checked_kind(kind: str, where: str) -> Kind:
    """``kind`` if it is valid.  Raises ``UserError`` that names ``where`` it was given."""
    for known in get_args(Kind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise UserError(f"{where}: there is no kind {kind!r}; there are {', '.join(get_args(Kind))}.")


def read_jsonl_task(path: Path, kind: str | None = None) -> JsonlTask:
    """The task in ``path``; ``kind`` is the value of ``--kind``.

    Raises:
        UserError: the file or an image is missing, or a line is not as the module says.
    """
    path = path.expanduser().absolute()
    content = read_bytes(path, "--tasks")
    lines = list(objects(content, str(path)))
    header = lines.pop(0)[1] if lines and "evalkit" in lines[0][1] else {}
    if not lines:
        raise UserError(
            f'{path} holds no samples; expected lines {{"id": …, "image": …, "question": …, "answers": …}}.'
        )
    found = _kind(path, header, lines[0][1], kind)
    samples = [_Line(f"{path}, line {number}", row).sample(path.parent, found) for number, row in lines]
    _check_ids(path, lines)
    _check_images(path, samples)
    metric = header.get("metric") or _default_metric(found, samples)
    registry.metrics.get(metric)  # an unknown one is refused here, before anything is generated
    return JsonlTask(path, found, metric, hashlib.sha256(content).hexdigest()[:16], samples)


def _kind(path: Path, header: Mapping[str, Any], first: Mapping[str, Any], given: str | None) -> Kind:
    """The kind given by the header, by ``--kind``, or else by the fields of the first sample."""
    unknown = [key for key in header if key not in HEADER]
    if unknown or (header and header["evalkit"] != FORMAT):
        wrong = f"{unknown[0]!r}" if unknown else f'"evalkit": {header["evalkit"]!r}'
        raise UserError(
            f"{path}: the first line has {wrong}; this evalkit reads "
            f'{{"evalkit": {FORMAT}, "kind": …, "metric": …}} there.'
        )
    for key in ("kind", "metric"):
        if key in header and not isinstance(header[key], str):
            raise UserError(f"{path}: the first line has the {key} {header[key]!r}; expected a name.")
    stated = checked_kind(header["kind"], str(path)) if "kind" in header else None
    if given is None and stated is None:
        return _kind_of_fields(path, first)
    wanted = None if given is None else checked_kind(given, "--kind")
    if wanted is not None and stated is not None and wanted != stated:
        raise UserError(f"--kind {given}: {path} says that it holds {stated}; leave --kind away, or correct the file.")
    kind = wanted or stated
    assert kind is not None
    return kind


def _kind_of_fields(path: Path, first: Mapping[str, Any]) -> Kind:
    kinds = [kind for kind, fields in REFERENCES.items() if all(field in first for field in fields)]
    if not kinds or (len(kinds) > 1 and kinds != ["vqa", "document"]):
        raise UserError(
            f"{path}: its first sample does not tell its kind, which needs answers, captions, box, or options and "
            f"answer (one of them); name it with --kind ({', '.join(get_args(Kind))})."
        )
    return kinds[0]


def _default_metric(kind: Kind, samples: Sequence[Sample]) -> str:
    if kind == "vqa" and all(len(sample.references) == ANNOTATORS for sample in samples):
        return "vqa_accuracy"
    return METRICS[kind]


def _check_ids(path: Path, lines: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    seen: dict[str, int] = {}
    for number, row in lines:
        first = seen.setdefault(str(row["id"]), number)
        if first != number:
            raise UserError(f"{path}, line {number}: the id {row['id']!r} is already used in line {first}.")


def _check_images(path: Path, samples: Sequence[Sample]) -> None:
    names = dict.fromkeys(image.name for sample in samples for image in sample.images)
    missing = [name for name in names if not Path(name).is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of its {len(names)} images are missing, for example {missing[0]}; "
            "image is a path relative to the file."
        )


@dataclass(frozen=True)
class _Line:
    """The line of one sample; ``where`` is its place, for messages."""

    where: str
    row: Mapping[str, Any]

    def sample(self, folder: Path, kind: Kind) -> Sample:
        known = ("id", "image", "question", *REFERENCES[kind])
        options = tuple(self.texts("options")) if kind == "choice" else ()
        image = str(folder / self.text("image"))
        return Sample(
            id=self.id(),
            images=(PathImage(image),),
            text="" if kind == "caption" and not self.row.get("question") else self.text("question"),
            references=self.references(kind, options),
            cluster=image,
            options=options,
            meta={key: value for key, value in self.row.items() if key not in known},
        )

    def references(self, kind: Kind, options: Sequence[str]) -> tuple[Any, ...]:
        if kind == "grounding":
            return (self.box(),)
        if kind == "choice":
            return (self.letter(options),)
        return tuple(self.texts(REFERENCES[kind][0]))

    def get(self, field: str, expected: str) -> Any:
        if field not in self.row:
            raise UserError(f"{self.where}: there is no {field!r}; expected {expected}.")
        return self.row[field]

    def wrong(self, field: str, expected: str) -> UserError:
        return UserError(f"{self.where}: {field} is {self.row[field]!r}; expected {expected}.")

    def id(self) -> str:
        value = self.get("id", "a text or a whole number")
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.wrong("id", "a text or a whole number")
        return str(value)

    def text(self, field: str) -> str:
        value = self.get(field, "a text")
        if not isinstance(value, str) or not value:
            raise self.wrong(field, "a text")
        return value

    def texts(self, field: str) -> list[str]:
        value = self.get(field, "a list of texts")
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.wrong(field, "a list of texts, at least one")
        return value

    def box(self) -> tuple[float, float, float, float]:
        expected = "[x1, y1, x2, y2] in pixels, x1 < x2 and y1 < y2"
        value = self.get("box", expected)
        numbers = isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) for v in value)
        if not numbers or not -FAR < value[0] < value[2] < FAR or not -FAR < value[1] < value[3] < FAR:
            raise self.wrong("box", expected)
        x1, y1, x2, y2 = map(float, value)
        return x1, y1, x2, y2

    def letter(self, options: Sequence[str]) -> str:
        """The right option's letter; ``answer`` is the letter or the option's text, if unambiguous."""
        if len(options) > len(LETTERS):
            raise UserError(f"{self.where}: {len(options)} options; there are letters for {len(LETTERS)}.")
        answer = self.text("answer")
        meant = [letter for letter, option in zip(LETTERS, options, strict=False) if answer in (letter, option)]
        if len(meant) != 1:
            raise self.wrong("answer", f"the letter or the text of exactly one of its {len(options)} options")
        return meant[0]
