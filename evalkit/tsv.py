"""VLMEvalKit's TSV files: a row per question, with its images in base64.

Columns have these meanings, all but ``index`` optional here (tasks demand theirs):

- ``index``: the row's id, unique; ``1.0``, as pandas writes integers in a column with gaps, is ``1``;
- ``image``: an image file in base64; or a list literal of several; or the ``index`` of the row that has the images;
- ``image_path``: the name of an image file, or a list literal of several;
- ``A``, ``B``, … : the options of a multiple-choice question;
- ``question``, ``hint``, ``answer``, ``category``, ``l2-category``, ``split`` and others: texts.

*Missing values.*  An empty cell is a missing value (None).  So is ``nan`` or ``NaN``, which pandas leaves where it
converted a column to text; but in ``question`` and ``answer`` these are texts, since a model may have to read them in
an image, and among the options they are missing only behind the last one, unless it is the answer.  pandas, and with
it VLMEvalKit, takes more words for missing (``None``, ``NA``, ``N/A``, ``null`` …): there, an option ``None`` is no
option.  Here it is one, except for VLMEvalKit's own rules and prompts (``evalkit/letters/vlmevalkit.py``).

*Size.*  The file is read once, in pieces, and a large one in parts by several processes (``evalkit.tsv_rows``); images
stay in it, and a ``TsvImage`` is a place in the file.  Rows that have the same image, as a copy or as another row's
index, share one ``TsvImage``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from evalkit.errors import UserError
from evalkit.garbage import garbage_collection_paused
from evalkit.images import EncodedImage
from evalkit.tsv_cells import CellReader, open_tsv
from evalkit.tsv_images import KnownImages, TsvImage, TsvSource, list_items
from evalkit.tsv_rows import IMAGE, INDEX, LARGEST_TEXT, MISSING, Row, read_rows
from evalkit.values import image_in, is_valid_id, shown

IMAGE_PATH = "image_path"
OPTIONS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
KEPT = frozenset({"question", "answer", *OPTIONS})
"""Columns in which only an empty cell is missing."""


@dataclass(frozen=True, eq=False, slots=True)
class TsvRow(Mapping[str, str | None]):
    """The texts of a row by column, without ``image``; None where one is missing.

    Attributes:
        index: the row's id.
        line: of the file, from 1, in which the row begins.
        images: those in the column ``image``, in order; none if the cell is empty.
    """

    file: TsvSource
    columns: Mapping[str, int] = field(repr=False)
    cells: Sequence[str] = field(repr=False)
    index: str
    line: int
    images: tuple[TsvImage, ...]

    def __getitem__(self, column: str) -> str | None:
        cell = self.cells[self.columns[column]]
        return cell if cell and (column in KEPT or cell not in MISSING) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return f"{self.file.path}, line {self.line}"

    @property
    def options(self) -> tuple[str, ...]:
        """The texts in ``A``, ``B``, … up to the last option; "" where one before it is missing."""
        found = [self.get(letter) or "" for letter in OPTIONS if letter in self.columns]
        while found and (not found[-1] or (found[-1] in MISSING and self.get("answer") != OPTIONS[len(found) - 1])):
            found.pop()
        return tuple(found)

    @property
    def image_names(self) -> tuple[str, ...]:
        """The names in ``image_path``; none if the cell is empty or there is no such column."""
        value = self.get(IMAGE_PATH) or ""
        if not value.startswith("["):
            return (value,) if value else ()
        content = value.encode()
        items = list_items(content)
        if items is None:
            raise UserError(f"{self.where}: image_path is {shown(value)}, neither a name nor a list of names.")
        return tuple(content[first:last].decode() for first, last in items)

    def images_or_files(self, folder: Path, *, task: str) -> tuple[EncodedImage, ...]:
        """The images of ``image``, or else the files in ``folder`` that ``image_path`` names."""
        return self.images or tuple(image_in(folder, name, task=task) for name in self.image_names)


@dataclass(frozen=True)
class TsvFile:
    """The rows of a TSV file.

    Attributes:
        columns: in the file's order.
        digest: 16 hex digits that depend on what the cells say, images included.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TsvRow, ...] = field(repr=False)
    digest: str

    @cached_property
    def by_index(self) -> Mapping[str, TsvRow]:
        """The rows by their ``index``, in the file's order."""
        return {row.index: row for row in self.rows}

    @property
    def has_images(self) -> bool:
        """Whether there is a column of images, or of their names."""
        return IMAGE in self.columns or IMAGE_PATH in self.columns


def read_tsv(path: Path, *, columns: Sequence[str] = (), task: str = "", images: bool = False) -> TsvFile:
    """The rows of ``path``.

    Args:
        columns: the columns it must have beside ``index``.
        task: the name of the task that reads it, for messages.
        images: whether it must have a column of images, or of their names.

    Raises:
        UserError: it cannot be read, lacks a column, or a row is not as the module says; the message has the line.
    """
    prefix = f"{task}: " if task else ""
    with open_tsv(path, prefix) as file:
        source = TsvSource.of(file, os.fspath(path))
        reader = CellReader(file, f"{prefix}{path}")
        found = _Rows(reader.name, source, _header(reader, columns, reader.name, images))
        with garbage_collection_paused():  # a million objects, none of them in a cycle
            found.add(read_rows(reader, found.columns, source))
            rows = found.finished()
    return TsvFile(path, tuple(found.columns), rows, found.digest.hexdigest()[:16])


def _header(reader: CellReader, columns: Sequence[str], name: str, images: bool) -> dict[str, int]:
    """The number of each column, by its name."""
    header = reader.row()
    if header is None:
        raise UserError(f"{name} is empty; download it again.")
    found: dict[str, int] = {}
    for number, cell in enumerate(header):
        column = str(cell).strip() or f"Unnamed: {number}"  # as pandas calls it
        if not is_valid_id(column):
            raise reader.error(f"the column {shown(column)} has a name that is not a short text on one line")
        if column in found:
            raise reader.error(f"two columns are called {shown(column)}; rename one")
        found[column] = number
    missing = [column for column in (INDEX, *columns) if column not in found]
    if images and IMAGE not in found and IMAGE_PATH not in found:
        missing.append(f"{IMAGE} (or {IMAGE_PATH})")
    if missing:
        has = shown(", ".join(found))
        raise UserError(f"{name} has no column {', '.join(missing)} (it has {has}); columns are separated by tabs.")
    return found


class _Rows:
    """The rows of a file, as they are added."""

    def __init__(self, name: str, source: TsvSource, columns: Mapping[str, int]) -> None:
        self.columns = columns
        self.digest = hashlib.sha256(json.dumps(list(columns)).encode())
        self._source = source
        self._name = name
        self._texts = {column: number for column, number in columns.items() if column != IMAGE}
        self._rows: dict[str, TsvRow] = {}
        self._pointers: dict[str, str] = {}
        self._images = KnownImages(source)

    def add(self, rows: Iterable[Row]) -> None:
        size = 0
        at = self._images.at
        for line, index, texts, content, pointer, places in rows:
            if index in self._rows:
                before = self._rows[index].line
                raise UserError(f"{self._name}, line {line}: the index {index} is already used in line {before}.")
            size += sum(map(len, texts))
            if size > LARGEST_TEXT:
                raise UserError(
                    f"{self._name}, line {line}: the texts up to here have more than {LARGEST_TEXT >> 20} MB; images "
                    f"belong in the column {IMAGE}."
                )
            self.digest.update(content.encode())
            if pointer:
                self._pointers[index] = pointer
            images = tuple([at(place, line, index) for place in places])
            self._rows[index] = TsvRow(self._source, self._texts, texts, index, line, images)
        if not self._rows:
            raise UserError(f"{self._name} has no rows; download it again.")

    def finished(self) -> tuple[TsvRow, ...]:
        """All rows, with the images of other rows where they are named."""
        for index in self._pointers:
            self._resolve(index)
        return tuple(self._rows.values())

    def _resolve(self, index: str) -> None:
        """Give the row ``index`` the images of the row that it names, which may name another one."""
        chain = {index: None}
        target = self._pointers[index]
        while target in self._pointers and not self._rows[target].images:
            if target in chain:
                raise self._wrong(index, f"the image is that of row {target}, whose image is that of this row")
            chain[target] = None
            target = self._pointers[target]
        if target not in self._rows:
            raise self._wrong(
                index,
                f"the image is {shown(target)}, which is no image and not the index of a row; the file is incomplete",
            )
        images = self._rows[target].images
        if not images:
            raise self._wrong(index, f"the image is that of row {target}, which has none")
        for one in chain:
            self._rows[one] = replace(self._rows[one], images=images)

    def _wrong(self, index: str, message: str) -> UserError:
        return UserError(f"{self._name}, line {self._rows[index].line}: {message}.")
