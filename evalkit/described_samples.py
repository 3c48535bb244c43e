"""The samples of a described task: each row with the columns that its fields come from becomes a ``SampleEntry``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.cell_values import corners, meta_value, parsed, plain, spelled, texts_of
from evalkit.columns import LISTS, Column, columns_in, located
from evalkit.conversations import Conversation, read_conversation
from evalkit.errors import UserError
from evalkit.file_task import with_places
from evalkit.images import PathImage
from evalkit.jsonl_sample import LETTERS, MEDIA, REFERENCES, SampleEntry
from evalkit.row_sources import path_inside
from evalkit.row_tables import Row, Table
from evalkit.tsv_images import TsvImage
from evalkit.tsv_sample import texts_in_list
from evalkit.types import LOCATED, ImageRef, Kind, Sample, VideoRef
from evalkit.values import is_valid_id, path_in, shown

PARSED = ("box", "boxes", "span", "video_start", "video_end", "messages")
"""Fields that are no texts: in a file of texts, their cells are JSON."""


@dataclass(frozen=True)
class SampleReader:
    """Makes samples of rows.

    Attributes:
        columns: what the description says of them, by field.
        folder: that names of image and video files are relative to, and cannot leave.
        breakdowns: columns that samples keep in ``meta`` whatever else they are used for.
    """

    kind: Kind
    columns: Mapping[str, Column]
    folder: Path
    breakdowns: Sequence[str] = ()
    breakdowns_where: str = ""

    def samples(self, table: Table) -> list[Sample]:
        """The samples of a table, in its order.

        Raises:
            UserError: a row is not as expected; the message has its place.
        """
        fields = located(self.columns, self.kind, table.columns, table.name)
        for key in self.breakdowns:
            if key not in table.columns:
                raise UserError(
                    f"{self.breakdowns_where}: breakdowns names the column {shown(key)}, and {table.name} has none of "
                    f"that name (it has {shown(', '.join(table.columns))})."
                )
        used = {name for column in fields.values() for name in column.used if not column.text}
        for name in table.columns:
            if not is_valid_id(name):
                raise UserError(
                    f"{table.name}: the column {shown(name)} has a name that is not a short text on a line."
                )
        unlisted = {*used, *table.extra, *_reserved(self.kind)} - set(self.breakdowns)
        meta = [column for column in table.columns if column not in unlisted]
        built = [_Row(self, fields, row, number, table.typed) for number, row in enumerate(table.rows, start=1)]
        samples = [row.sample(meta) for row in built]
        seen: dict[str, _Row] = {}
        for row in built:
            if (first := seen.setdefault(row.row_id, row)) is not row:
                raise UserError(f"{row.where}: the id {shown(row.row_id)} is already used in {first.where}.")
        clusters = _clusters(built)
        return [replace(sample, cluster=cluster) for sample, cluster in zip(samples, clusters, strict=True)]


def _reserved(kind: Kind) -> frozenset[str]:
    """Names of columns that are fields of another meaning when they are not used as such."""
    return frozenset((*MEDIA, "messages", "id", "question", *REFERENCES[kind]))


def _clusters(rows: Sequence[_Row]) -> list[str]:
    """The cluster of each row: as stated, else the image or video that most rows share, else the row itself."""
    counts = Counter(name for row in rows for name in set(row.media_names))
    return [
        row.cluster or (max(row.media_names, key=lambda name: counts[name]) if row.media_names else row.row_id)
        for row in rows
    ]


class _Row:
    """A row, with the fields of its sample."""

    def __init__(self, reader: SampleReader, fields: Mapping[str, Column], row: Row, number: int, typed: bool) -> None:
        self._reader, self._fields, self._row, self._number, self._typed = reader, fields, row, number, typed
        self.where = f"{row.path}, {row.place[0]} {row.place[1]}"
        self.media_names: list[str] = []
        self.cluster = ""
        self.row_id = ""

    def sample(self, meta: Sequence[str]) -> Sample:
        """The sample; ``meta`` are the columns that it keeps as such."""
        kind = self._reader.kind
        fields = {f: self._value(c) for f, c in self._fields.items() if f not in ("image", "video", "cluster")}
        stated = {field: value for field, value in fields.items() if value is not None}
        stated.setdefault("id", str(self._number))
        conversation = self._conversation(stated)
        images, videos = self._images(), self._videos(stated)
        if conversation is not None:
            if (images and conversation.images) or (videos and conversation.videos):
                raise UserError(
                    f"{self.where}: the messages name files, and the row has others beside them; name all in one place."
                )
            images, videos = (*images, *conversation.images), (*videos, *conversation.videos)
        self._check_media(images, videos)
        kept = {key: meta_value(value) for key in meta if (value := self._row.values.get(key)) is not None}
        found = SampleEntry(self._row.path, self._row.place, stated).sample(kind, images, "", videos)
        sample = replace(found, meta={**kept, **found.meta})
        self.row_id = sample.id
        self.cluster = self._cluster()
        if conversation is not None:
            return conversation.placed(sample, self.where, located=kind in LOCATED)
        return with_places(sample, self.where, videos=True)

    # ------------------------------------------------------------------------------------------------------- values

    def _value(self, column: Column) -> Any:
        """The value of a field as custom task files have it; None if the row has none."""
        if column.value is not None:
            return column.value
        if column.text:
            return self._text(column)
        values = [self._cell(column.field, name) for name in column.names]
        if column.several:
            flat = [one for v in values if v is not None for one in (v if isinstance(v, list) else [v])]
            values = [flat or None]
        value = values[0] if values else None
        if value is None:
            return None
        field = column.field
        if field in LISTS:
            texts = texts_of(value, column.split)
            return self._without_letters(texts) if column.lettered else texts
        if field in ("box", "boxes") and (column.format == "xywh" or column.labels):
            labels = self._cell("boxes", column.labels) if column.labels else None
            return self._boxes(column, value, labels)
        if field == "answer":
            return self._answer(column, value)
        return plain(value)

    def _cell(self, field: str, name: str) -> Any:
        value = self._row.values.get(name)
        if self._typed or not isinstance(value, str):
            return value
        if field in PARSED:
            return parsed(value)
        if field in LISTS or field in MEDIA:
            found = parsed(value) if value.startswith("[") else value
            return found if isinstance(found, list) else list(texts_in_list(value)) or value
        return value

    def _text(self, column: Column) -> str:
        values = {}
        for name in columns_in(column.text):
            value = self._row.values.get(name)
            if value is None:
                raise UserError(f"{self.where}: {name} is empty, and {column.field} is a text with it in it.")
            values[name] = spelled(value)
        return column.text.format_map(values)

    def _answer(self, column: Column, value: Any) -> Any:
        """The answer to a question with options; the number of an option becomes its letter."""
        if column.first is None:
            return value if isinstance(value, bool) else spelled(value)
        text = spelled(value)
        if not text.isdecimal() or len(text) > 4 or not 0 <= int(text) - column.first < len(LETTERS):
            raise UserError(
                f"{self.where}: answer is {shown(value)}; expected the number of an option, from {column.first}."
            )
        return LETTERS[int(text) - column.first]

    def _without_letters(self, options: Any) -> Any:
        """Options without the letters that they begin with: ``red`` for ``A. red`` and ``(A) red``."""
        found = []
        for letter, option in zip(LETTERS, options, strict=False):
            match = re.fullmatch(rf"\(?{letter}[.):]\s*(.*)", option, re.S) if isinstance(option, str) else None
            if match is None:
                raise UserError(f"{self.where}: the option {shown(option)} does not begin with its letter, {letter}.")
            found.append(match[1])
        return found

    def _boxes(self, column: Column, value: Any, labels: Any) -> Any:
        """Boxes with two corners; with their labels, if these are in another column."""
        if column.field == "box":
            return corners(value)
        if column.labels:
            if not isinstance(value, list) or not isinstance(labels, list) or len(value) != len(labels):
                raise UserError(
                    f"{self.where}: {column.names[0]} and {column.labels} are not two lists of the same length, a "
                    "label for each box."
                )
            value = [{"label": label, "box": box} for label, box in zip(labels, value, strict=True)]
        if column.format == "xywh" and isinstance(value, list):
            return [{**one, "box": corners(one.get("box"))} if isinstance(one, dict) else one for one in value]
        return value

    # -------------------------------------------------------------------------------------------------------- media

    def _images(self) -> tuple[ImageRef, ...]:
        column = self._fields.get("image")
        if column is None:
            return ()
        found: list[ImageRef] = []
        for name in column.names or ("",):
            if name in self._row.images:
                found += self._row.images[name]
                self.media_names += [n for image in self._row.images[name] if (n := _shared_name(image))]
            else:
                found += [PathImage(path) for path in self._paths(self._named(column, name), column)]
        return tuple(found)

    def _videos(self, stated: Mapping[str, Any]) -> tuple[VideoRef, ...]:
        column = self._fields.get("video")
        if column is None:
            return ()
        from evalkit.video import VideoFile

        start, end = SampleEntry(self._row.path, self._row.place, stated).segment()
        values = [self._named(column, name) for name in column.names or ("",)]
        return tuple(VideoFile(path, start, end) for value in values for path in self._paths(value, column))

    def _named(self, column: Column, name: str) -> Any:
        """The names of files in a cell; the same for all rows, or a text with cells in it, where the column says so."""
        if column.value is not None:
            return column.value
        return self._text(column) if column.text else self._cell(column.field, name)

    def _paths(self, value: Any, column: Column) -> list[str]:
        """The paths of the files that a cell names."""
        if value is None:
            return []
        names = value if isinstance(value, list) else [value]
        return [self.path(name, column.field, column.folder) for name in names if name not in (None, "")]

    def path(self, name: Any, field: str, folder: str = "") -> str:
        """The path of a file.  Raises ``UserError`` if it is outside of the task's folder."""
        if not isinstance(name, str):
            raise UserError(f"{self.where}: {field} is {shown(name)}; expected a path, or a list of them.")
        inside = path_inside(self._reader.folder, f"{folder}/{name}" if folder else name, field, self.where)
        self.media_names.append(inside)
        return path_in(self._reader.folder, inside)

    def _conversation(self, stated: dict[str, Any]) -> Conversation | None:
        messages = stated.pop("messages", None)
        if messages is None:
            return None
        found = read_conversation(messages, self.where, self.path, question=stated.get("question"))
        stated["question"] = found.question
        return found

    def _check_media(self, images: Sequence[ImageRef], videos: Sequence[VideoRef]) -> None:
        kind = self._reader.kind
        if kind in LOCATED and len(images) != 1:
            raise UserError(
                f"{self.where}: {len(images)} images; expected one, since places in it are asked for (columns.image)."
            )
        if kind == "temporal_grounding" and len(videos) != 1:
            raise UserError(
                f"{self.where}: {len(videos)} videos; expected one, since times in it are asked for (columns.video)."
            )

    def _cluster(self) -> str:
        column = self._fields.get("cluster")
        value = None if column is None else self._value(column)
        if value is None or isinstance(value, list | dict):
            return ""
        return spelled(value)


def _shared_name(image: ImageRef) -> str:
    """What a TSV file calls an image: the index of the first row that has it; empty for an image in a data set.

    Which rows of a data set have the same image is not known without reading all of them.
    """
    if not isinstance(image, TsvImage):
        return ""
    return image.index if image.item is None else f"{image.index}[{image.item}]"
