"""The samples of custom task files: one JSON object each, checked field by field (see ``evalkit.jsonl_task``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.boxes import box_problem
from evalkit.errors import UserError
from evalkit.file_task import with_places
from evalkit.jsonl import BOM, objects, parse
from evalkit.types import (
    CATEGORY_SEPARATOR,
    LOCATED,
    Box,
    ImageRef,
    Kind,
    LabelledBox,
    Sample,
    Size,
    TimeSpan,
    VideoRef,
)
from evalkit.yes_no import NO, YES

REFERENCES: Mapping[Kind, Sequence[str]] = {
    "vqa": ("answers",),
    "document": ("answers",),
    "caption": ("captions",),
    "choice": ("options", "answer"),
    "yes_no": ("answer",),
    "grounding": ("box",),
    "pointing": ("box",),
    "detection": ("categories", "boxes"),
    "temporal_grounding": ("span",),
}
MEDIA = ("image", "video", "video_start", "video_end")
FAR = 1e9
"""Limit of coordinates in pixels and of times in seconds; refuses infinities and overflow."""
SPAN = "[start, end] in seconds, 0 <= start < end"
BOX = "[x1, y1, x2, y2] in pixels, x1 < x2 and y1 < y2"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


NO_META: Mapping[str, Any] = {}
"""Of most samples: one for all saves memory."""


@dataclass(frozen=True, slots=True)  # a file may have millions
class SampleEntry:
    """One sample's object in a file.

    Attributes:
        place: where it is in the file: ``line`` or ``entry``, and its number.
    """

    path: Path
    place: tuple[str, int]
    row: Mapping[str, Any]

    @property
    def where(self) -> str:
        """Its place, for messages."""
        unit, number = self.place
        return f"{self.path}, {unit} {number}"

    def sample(
        self, kind: Kind, images: tuple[ImageRef, ...], cluster: str, videos: tuple[VideoRef, ...] = ()
    ) -> Sample:
        """The sample.

        Raises:
            UserError: a field is missing, or not as expected.
        """
        known = ("id", *MEDIA, "question", *REFERENCES[kind])
        options = tuple(self.texts("options")) if kind == "choice" else ()
        if kind == "detection":
            text = CATEGORY_SEPARATOR.join(self.categories())
        else:
            text = "" if kind == "caption" and not self.row.get("question") else self.text("question")
        found = Sample(
            id=self.id(),
            images=images,
            text=text,
            references=self.references(kind, options),
            cluster=cluster,
            options=options,
            meta={key: value for key, value in self.row.items() if key not in known} or NO_META,
            videos=videos,
        )
        return with_places(found, self.where) if isinstance(self.row.get("image"), list) else found

    def images(self, kind: Kind) -> list[str]:
        """The names of its images, as the file has them; none if it has a video instead."""
        if "video" in self.row and "image" not in self.row and kind not in LOCATED:
            return []
        value = self.get("image", "a path, or a list of paths")
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise self.wrong("image", "a text (a path), or a list of them")
        if kind in LOCATED and len(names) > 1:
            raise self.wrong("image", "one image, since the box is in its pixels")
        return names

    def videos(self, kind: Kind) -> list[str]:
        """The names of its videos, as the file has them."""
        if "video" not in self.row and kind != "temporal_grounding":
            return []
        value = self.get("video", "a path")
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise self.wrong("video", "a text (a path), or a list of them")
        if len(names) > 1 and (kind == "temporal_grounding" or self.segment() != (None, None)):
            raise self.wrong("video", "one video, since the times are in it")
        return names

    def segment(self) -> tuple[float | None, float | None]:
        """The start and the end of the part of its video that is shown, in seconds; None for those of the file."""
        start, end = (self._time(field) for field in ("video_start", "video_end"))
        if end is not None and end <= (start or 0):
            raise self.wrong("video_end", "a time in seconds after video_start")
        return start, end

    def _time(self, field: str) -> float | None:
        value = self.row.get(field)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value < FAR:
            raise self.wrong(field, "a time in seconds")
        return float(value)

    def span(self) -> TimeSpan:
        value = self.get("span", SPAN)
        if not isinstance(value, list) or len(value) != 2 or not all(type(v) in (int, float) for v in value):
            raise self.wrong("span", SPAN)
        if not 0 <= value[0] < value[1] < FAR:
            raise self.wrong("span", SPAN)
        return float(value[0]), float(value[1])

    def references(self, kind: Kind, options: Sequence[str]) -> tuple[Any, ...]:
        if kind == "detection":
            return self.labelled_boxes()
        if kind in LOCATED:
            return (self.box(),)
        if kind == "temporal_grounding":
            return (self.span(),)
        if kind == "choice":
            return (self.letter(options),)
        if kind == "yes_no":
            return (self.yes_no(),)
        return tuple(self.texts(REFERENCES[kind][0]))

    def get(self, field: str, expected: str) -> Any:
        if field not in self.row:
            raise UserError(f"{self.where}: there is no {field!r}; expected {expected}.")
        return self.row[field]

    def wrong(self, field: str, expected: str) -> UserError:
        return UserError(f"{self.where}: {field} is {self.row[field]!r}; expected {expected}.")

    def id(self) -> str:
        value = self.get("id", "a text or an integer")
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.wrong("id", "a text or an integer")
        return str(value)

    def text(self, field: str) -> str:
        value = self.get(field, "a text")
        if not isinstance(value, str) or not value:
            raise self.wrong(field, "a text")
        return value

    def yes_no(self) -> str:
        value = self.get("answer", "yes or no")
        if isinstance(value, bool):
            return YES if value else NO
        if not isinstance(value, str) or value.strip().lower() not in (YES, NO):
            raise self.wrong("answer", "yes or no")
        return value.strip().lower()

    def texts(self, field: str) -> list[str]:
        value = self.get(field, "a list of texts")
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.wrong(field, "a list of texts, at least one")
        return value

    def box(self) -> Box:
        found = _box(self.get("box", BOX))
        if found is None:
            raise self.wrong("box", BOX)
        return found

    def categories(self) -> list[str]:
        """The names of the categories, each once."""
        names = self.texts("categories")
        plain = [name.strip().lower() for name in names]
        if not all(plain) or len(set(plain)) != len(plain) or any(CATEGORY_SEPARATOR in name for name in names):
            raise self.wrong("categories", f"names that differ, without {CATEGORY_SEPARATOR!r} in them")
        return names

    def labelled_boxes(self) -> tuple[LabelledBox, ...]:
        """The objects of the image; none in one without objects."""
        expected = f'a list of {{"label": …, "box": {BOX}}}'
        value = self.get("boxes", expected)
        if not isinstance(value, list):
            raise self.wrong("boxes", expected)
        names = self.categories()
        found: list[LabelledBox] = []
        for one in value:
            box = _box(one.get("box")) if isinstance(one, dict) else None
            if box is None:
                raise UserError(f"{self.where}: boxes has {one!r} in it; expected {expected}.")
            if one.get("label") not in names:
                raise UserError(
                    f"{self.where}: boxes has the label {one.get('label')!r}, which is not among its categories."
                )
            found.append({"label": one["label"], "box": box})
        return tuple(found)

    def check_box(self, kind: Kind, size: Size | None) -> None:
        """Raise ``UserError`` if a box cannot be in pixels of an image of ``size`` (None if it is not known)."""
        field = "boxes" if kind == "detection" else "box"
        for box in [one["box"] for one in self.labelled_boxes()] if kind == "detection" else [self.box()]:
            if problem := box_problem(box, size):
                raise self.wrong(
                    field, f"{'boxes' if kind == 'detection' else 'a box'} in pixels of the image; {problem}"
                )

    def letter(self, options: Sequence[str]) -> str:
        """The right option's letter; ``answer`` is the letter or the option's text, if unambiguous."""
        if len(options) > len(LETTERS):
            raise UserError(f"{self.where}: {len(options)} options; there are letters for {len(LETTERS)}.")
        answer = self.text("answer")
        meant = [letter for letter, option in zip(LETTERS, options, strict=False) if answer in (letter, option)]
        if len(meant) != 1:
            raise self.wrong("answer", f"the letter or the text of exactly one of its {len(options)} options")
        return meant[0]


def entries_of(content: bytes, path: Path, *, spelled: bool = False) -> list[SampleEntry]:
    """The objects in a file, its header included: one per line, or those of a list.

    Args:
        spelled: as for ``evalkit.jsonl.parse``.

    Raises:
        UserError: it is not JSON, or has something else than objects; the message has the line.
    """
    if not content.removeprefix(BOM).lstrip().startswith(b"["):
        return [
            SampleEntry(path, ("line", number), row) for number, row in objects(content, str(path), spelled=spelled)
        ]
    try:
        values = parse(content, spelled=spelled)
    except ValueError as error:
        raise UserError(
            f"{path}: not valid JSON ({error}); expected a list of objects, or one object a line."
        ) from error
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise UserError(f"{path}, entry {number}: expected a JSON object, not {type(value).__name__}.")
    return [SampleEntry(path, ("entry", number), value) for number, value in enumerate(values, start=1)]


def _box(value: Any) -> Box | None:
    """The box in ``value``; None unless it is four numbers that enclose something."""
    if not isinstance(value, list) or len(value) != 4 or not all(type(v) in (int, float) for v in value):
        return None
    x1, y1, x2, y2 = value
    if not -FAR < x1 < x2 < FAR or not -FAR < y1 < y2 < FAR:
        return None
    return float(x1), float(y1), float(x2), float(y2)
