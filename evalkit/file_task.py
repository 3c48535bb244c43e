"""Custom tasks: a task is one file of the user's own, ``--tasks ./mine.jsonl``.

The task has the file's name without its suffix, and one split, ``own``.  The signature contains a digest of what the
file says, so that scores of different files of one name are not comparable.  Where the file lies does not matter:
clusters are named by what the file calls its images.  ``evalkit.task_files`` has the formats.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from evalkit.data import Data
from evalkit.errors import UserError
from evalkit.interfaces import Task
from evalkit.types import ContentPart, Decoding, Kind, Sample, Split

SPLIT = "own"
METRICS: Mapping[Kind, str] = {
    "vqa": "exact_match",
    "document": "anls",
    "caption": "cider",
    "choice": "choice_accuracy",
    "yes_no": "yes_no_accuracy",
    "grounding": "iou",
    "pointing": "point_in_box",
    "detection": "coco_ap",
    "temporal_grounding": "temporal_iou",
}
"""The metric of each kind, unless the file names one."""
NEW_TOKENS: Mapping[Kind, int] = {
    "vqa": 10,
    "document": 100,
    "caption": 30,
    "choice": 10,
    "yes_no": 10,
    "grounding": 28,
    "pointing": 28,
    "detection": 4096,
    "temporal_grounding": 64,
}
MARK = "<image>"
"""Marks the place of an image in a question, or is an option that is an image."""
VIDEO_MARK = "<video>"
"""Marks the place of a video in a question of a described task."""


class FileTask(Task):
    """A task made of one file.

    Attributes:
        path: of the file, absolute.
        images_advice: what to do if images are missing, for messages.
    """

    version = 1
    default_splits: Sequence[str] = (SPLIT,)

    def __init__(self, path: Path, kind: Kind, metric: str, digest: str, samples: Sequence[Sample]) -> None:
        self.name = path.stem
        self.path = path
        self._digest = digest
        self.kind: Kind = kind
        self.metric = metric
        self.splits: Mapping[str, Split] = {SPLIT: Split(len(samples), str(path))}
        self.decoding = Decoding(max_new_tokens=NEW_TOKENS[kind])
        self.layout: Sequence[str] = (str(path),)
        self.images_advice = f"image is a path relative to {path}"
        self._samples = samples

    @property
    def digest(self) -> str:
        """16 hex digits that depend on what the file says, not on where it lies."""
        return self._digest

    def load(self, data: Data, split: str) -> Iterator[Sample]:
        """The samples in the file's order; ``data`` is ignored, since the file has or names its images."""
        yield from self._samples

    def earlier_annotations(self, samples: Sequence[Sample]) -> str | None:
        """The digest that earlier versions gave ``samples``, if that was another one; else None."""
        return None


def checked_kind(kind: str, where: str) -> Kind:
    """``kind`` if it is valid.  Raises ``UserError`` that names ``where`` it was given."""
    for known in get_args(Kind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise UserError(f"{where}: there is no kind {kind!r}; there are {', '.join(get_args(Kind))}.")


def with_places(sample: Sample, where: str, *, videos: bool = False) -> Sample:
    """``sample`` with its images in the places that its question and its options mark; before the text if they do not.

    Args:
        where: the sample's place in the file, for messages.
        videos: whether the question marks the places of videos, too; otherwise they come first.

    Raises:
        UserError: there are fewer or more marks than images, or than videos.
    """
    if MARK not in sample.text and MARK not in sample.options and not (videos and VIDEO_MARK in sample.text):
        return sample
    pieces = split_at_marks(sample.text, videos=videos)
    marked = Counter(piece for piece in pieces if piece in (MARK, VIDEO_MARK))
    marked[MARK] += sum(option == MARK for option in sample.options)
    for mark, media, what in ((MARK, sample.images, "images"), (VIDEO_MARK, sample.videos, "videos")):
        if marked[mark] and marked[mark] != len(media):
            raise UserError(
                f"{where}: the question has {marked[mark]} times {mark} for {len(media)} {what}; mark the place of "
                "each, or of none."
            )
    images, clips = iter(sample.images), iter(sample.videos)
    content: list[ContentPart] = [] if marked[VIDEO_MARK] else list(clips)
    content += [] if marked[MARK] else list(images)
    content += [next(images) if p == MARK else next(clips) if p == VIDEO_MARK and videos else p for p in pieces]
    return Sample.interleaved(
        sample.id,
        [part for part in content if part != ""],
        references=sample.references,
        cluster=sample.cluster,
        options=[next(images) if option == MARK else option for option in sample.options],
        meta=sample.meta,
    )


def split_at_marks(text: str, *, videos: bool) -> list[str]:
    """``text`` in pieces: texts, and the marks of images and, if ``videos``, of videos between them."""
    return re.split(f"({MARK}|{VIDEO_MARK})" if videos else f"({MARK})", text)


def image_clusters(names: Sequence[Sequence[str]]) -> list[str]:
    """The cluster of each sample, given the names of its videos and images: the one that most samples have."""
    several = any(len(own) > 1 for own in names)
    counts = Counter(name for own in names for name in set(own)) if several else Counter()
    return [own[0] if len(own) == 1 else max(own, key=lambda name: counts[name]) for own in names]
