"""Custom task files: your own data without a plugin, ``--tasks ./mine.jsonl``, one sample per line.

    {"evalkit": 1, "kind": "vqa", "metric": "vqa_accuracy"}                          (optional first line)
    {"id": "7", "image": "images/7.jpg", "question": "What is this?", "answers": ["a cat", "cat"]}

A JSON list of such objects is read as well, in ``.jsonl`` or ``.json``.  ``image`` is a path relative to the file, or a
list of them: the images then come before the question, or where it says ``<image>``.  ``video``, beside or in place of
it, is the path of a video, or a list of them, which come first; ``video_start`` and ``video_end``, in seconds, are the
part of it that is shown.  By kind, a line also has:

- ``vqa``, ``document``: ``question`` and ``answers``, a list of texts;
- ``choice``: ``question``, ``options`` (texts in order), and ``answer``, the right one's letter or its text;
- ``yes_no``: ``question`` and ``answer``, ``yes`` or ``no``;
- ``grounding``: ``question``, the referring expression, and ``box``, ``[x1, y1, x2, y2]`` in pixels of the image as a
  viewer shows it;
- ``pointing``: ``question``, what to point to, and ``box``, as for ``grounding``: the point must be inside;
- ``detection``: ``categories``, a list of names, and ``boxes``, a list of ``{"label": …, "box": …}``, empty for an
  image without objects of these categories;
- ``temporal_grounding``: ``video``, ``question``, the event, and ``span``, its ``[start, end]`` in seconds from where
  the video, or the shown part of it, begins;
- ``caption``: ``captions``, a list of texts.

The kind is given in the first line or by ``--kind``; without either, it follows from the first sample's fields
(``answers`` then means ``vqa``).  All other fields of a line become the sample's ``meta``, where metrics look for their
breakdowns (``answer_type``, ``category``, ``domain``).  Samples of one image or video are one cluster.

The first line can have every key of a description, too (``evalkit.description``): columns of other names, prompts,
decoding, a judge.  Lines are then read as the rows of a described task.

``evalkit.file_task`` says what all custom tasks have in common.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from evalkit import registry
from evalkit.data import is_valid_id, path_in, shown
from evalkit.described_task import DescribedTask
from evalkit.description import read_description
from evalkit.errors import UserError
from evalkit.file_task import METRICS, FileTask, checked_kind, image_clusters
from evalkit.fingerprint import of_samples
from evalkit.images import PathImage
from evalkit.jsonl import read_bytes
from evalkit.jsonl_sample import REFERENCES, SampleEntry, entries_of
from evalkit.paths import user_path
from evalkit.row_tables import Row, Table
from evalkit.stated import Stated
from evalkit.types import LOCATED, ImageRef, Kind, Sample, Size, VideoRef

FORMAT = 1
HEADER = ("evalkit", "kind", "metric")
HEADER_THREADS = 8  # they read images' headers
ANNOTATORS = 10
"""``vqa`` files with this many answers per question are scored with VQA accuracy."""


class JsonlTask(FileTask):
    """The task in a JSON file; see the module."""

    def earlier_annotations(self, samples: Sequence[Sample]) -> str | None:
        """``of_samples`` as up to 54ec510, where clusters were the images' absolute paths."""
        return of_samples(
            replace(sample, cluster=sample.images[0].name) if len(sample.images) == 1 else sample for sample in samples
        )


def read_jsonl_task(path: Path, kind: str | None = None) -> JsonlTask | DescribedTask:
    """The task in ``path``; ``kind`` is the value of ``--kind``.

    Raises:
        UserError: the file is missing, or a line is not as the module says.
    """
    path = user_path(str(path), "--tasks").absolute()
    content = read_bytes(path, "--tasks")
    entries = entries_of(content, path)
    header = entries.pop(0).row if entries and "evalkit" in entries[0].row else {}
    if header.keys() - set(HEADER) or isinstance(header.get("metric"), Mapping):
        return _described(content, path, kind)
    _check_field_names(entries)
    if not entries:
        raise UserError(f'{path} has no samples; expected lines {{"id": …, "image": …, "question": …, "answers": …}}.')
    found = _kind(path, header, entries[0].row, kind)
    samples = _samples(entries, path, found)
    _check_ids(samples, entries)
    if found in LOCATED:
        _check_boxes(samples, entries, found)
    metric = header.get("metric") or _default_metric(found, samples)
    registry.metrics.get(metric)  # an unknown one is refused here, before anything is generated
    return JsonlTask(path, found, metric, hashlib.sha256(content).hexdigest()[:16], samples)


def _described(content: bytes, path: Path, kind: str | None) -> DescribedTask:
    """The task in a file whose first line describes it as a TOML file would."""
    first, *entries = entries_of(content, path, spelled=True)
    description = read_description(Stated(first.row, lambda key: first.where), kind)
    if description.rows is not None and entries:
        raise UserError(f"{first.where}: rows says where the rows are, and there are others in {entries[0].where}.")
    found = description.kind
    if found is None:
        if not entries:
            description.stated.missing("kind", f"one of {', '.join(get_args(Kind))}")
        found = _kind_of_fields(path, entries[0].row)
    counts = {len(answers) if isinstance(answers := e.row.get("answers"), list) else 0 for e in entries}
    if found == "vqa" and not description.metric and counts == {ANNOTATORS}:
        description = replace(description, metric="vqa_accuracy")
    keys = tuple(dict.fromkeys(key for entry in entries for key in entry.row))
    digest = hashlib.sha256(content).hexdigest()
    rows = [Row(path, entry.place, entry.row) for entry in entries]
    table = Table(path.name, keys, rows, digest) if description.rows is None else None
    return DescribedTask(path, description, found, table)


def _samples(entries: Sequence[SampleEntry], path: Path, kind: Kind) -> list[Sample]:
    """The samples of a file; those of one image share its reference, since there may be millions."""
    names = [entry.images(kind) for entry in entries]
    videos = [entry.videos(kind) for entry in entries]
    normal = {name: os.path.normpath(name) for name in dict.fromkeys(chain(*names, *videos))}
    images = {name: PathImage(path_in(path.parent, name)) for name in dict.fromkeys(chain(*names))}
    shown = [[normal[name] for name in (*first, *then)] for first, then in zip(videos, names, strict=True)]
    return [
        entry.sample(kind, tuple(images[name] for name in own), cluster, _videos(entry, path.parent, clips))
        for entry, own, clips, cluster in zip(entries, names, videos, image_clusters(shown), strict=True)
    ]


def _videos(entry: SampleEntry, folder: Path, names: Sequence[str]) -> tuple[VideoRef, ...]:
    """The videos of a sample, or the part of its video that is shown."""
    if not names:
        return ()
    from evalkit.video import VideoFile

    start, end = entry.segment()
    return tuple(VideoFile(path_in(folder, name), start, end) for name in names)


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
        raise UserError(f"--kind {given}: {path} says that its kind is {stated}; drop --kind, or correct the file.")
    kind = wanted or stated
    assert kind is not None
    return kind


def _kind_of_fields(path: Path, first: Mapping[str, Any]) -> Kind:
    kinds = [kind for kind, fields in REFERENCES.items() if all(field in first for field in fields)]
    if "choice" in kinds:
        kinds.remove("yes_no")  # it has an ``answer``, too
    if "grounding" in kinds:
        kinds.remove("pointing")  # a ``box`` means that it is to be found, unless --kind or the file says otherwise
    if not kinds or (len(kinds) > 1 and kinds != ["vqa", "document"]):
        raise UserError(
            f"{path}: its first sample does not tell its kind, which needs answers, captions, box, span, categories "
            f"and boxes, or options and answer (one of them); name it with --kind ({', '.join(get_args(Kind))})."
        )
    return kinds[0]


def _default_metric(kind: Kind, samples: Sequence[Sample]) -> str:
    if kind == "vqa" and all(len(sample.references) == ANNOTATORS for sample in samples):
        return "vqa_accuracy"
    return METRICS[kind]


def _check_field_names(entries: Sequence[SampleEntry]) -> None:
    """Refuse names of fields that tables cannot have as columns, such as one with a NUL."""
    known: set[str] = set()
    for entry in entries:
        for name in entry.row.keys() - known:
            if not is_valid_id(name):
                raise UserError(
                    f"{entry.where}: the field {shown(name)} has a name that is not a short text on one line."
                )
            known.add(name)


def _check_ids(samples: Sequence[Sample], entries: Sequence[SampleEntry]) -> None:
    seen: dict[str, tuple[str, int]] = {}
    for sample, entry in zip(samples, entries, strict=True):
        first = seen.setdefault(sample.id, entry.place)
        if first != entry.place:
            unit, number = first
            raise UserError(f"{entry.where}: the id {entry.row['id']!r} is already used in {unit} {number}.")


def _check_boxes(samples: Sequence[Sample], entries: Sequence[SampleEntry], kind: Kind) -> None:
    """Check that boxes are within their images; unreadable images are reported when they are needed."""
    images = {sample.images[0].name: sample.images[0] for sample in samples}
    with ThreadPoolExecutor(HEADER_THREADS) as pool:  # mostly waiting for network drives
        sizes = dict(zip(images, pool.map(_size_or_none, images.values()), strict=True))
    for sample, entry in zip(samples, entries, strict=True):
        entry.check_box(kind, sizes[sample.images[0].name])


def _size_or_none(image: ImageRef) -> Size | None:
    try:
        return image.size()
    except (OSError, ValueError):
        return None
