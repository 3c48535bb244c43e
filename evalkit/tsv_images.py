"""Images in the cells of TSV files (``evalkit.tsv``): places in a file, read and decoded when they are needed."""

from __future__ import annotations

import binascii
import io
import os
import re
from base64 import b64decode
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import xxhash

from evalkit.images import EncodedImage
from evalkit.tsv_cells import SHORT, ImageCell
from evalkit.values import shown

_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]*")
_DATA_URL = re.compile(rb"data:image/[a-z0-9.+-]{1,30};base64,")
_LINE_ENDS = re.compile(rb"\s|\\n")  # in a list literal, they are escaped


@dataclass(frozen=True)
class TsvSource:
    """A TSV file as it was when its rows were read."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: FileIO, path: str) -> TsvSource:
        """``file``, opened at ``path``."""
        found = os.fstat(file.fileno())
        return cls(path, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class TsvImage(EncodedImage):
    """An image in a cell of a TSV file.

    Attributes:
        offset: of its base64 text in the file, in bytes.
        length: of its base64 text, in bytes.
        line: the line of the file, from 1, in which its row begins.
        index: the index of its row; where several rows have the image, of the first one.
        item: its number in the cell, from 0, if that has a list.
    """

    file: TsvSource
    offset: int
    length: int
    line: int
    index: str
    item: int | None = None
    upright: bool = True

    @property
    def name(self) -> str:
        return f"{self.file.path}[{self.index}]" + ("" if self.item is None else f"[{self.item}]")

    @property
    def key(self) -> str:
        return f"{self.file.path}@{self.offset}" + ("" if self.upright else " (as stored)")

    @property
    def origin(self) -> str:
        return self.file.path

    def source(self) -> io.BytesIO:
        with Path(self.file.path).open("rb", buffering=0) as file:
            stat = os.fstat(file.fileno())
            if (stat.st_size, stat.st_mtime_ns) != (self.file.size, self.file.mtime_ns):
                raise OSError(f"{self.file.path} has changed since its rows were read")
            text = os.pread(file.fileno(), self.length, self.offset)
        try:
            return io.BytesIO(b64decode(_LINE_ENDS.sub(b"", text) if _LINE_ENDS.search(text) else text, validate=True))
        except binascii.Error as error:
            place = f"{self.file.path}, line {self.line}"
            raise ValueError(f"{place}: the image is not valid base64 ({error}); download the file again") from None


class ImagePlace(NamedTuple):
    """Where an image is in a cell.

    Attributes:
        digest: of its text.
        whole: the length of its text with what comes before the base64, in bytes.
        offset: of the base64 in the file, in bytes.
        length: of the base64, in bytes.
        item: its number in the cell, from 0, if that has a list.
    """

    digest: bytes
    whole: int
    offset: int
    length: int
    item: int | None


def places_in(cell: ImageCell) -> tuple[ImagePlace, ...]:
    """The places of the images in a cell.

    Raises:
        ValueError: it is neither base64 nor a list; only the beginning and the length are checked.
    """
    if not cell.text.startswith(b"["):
        return (_place(cell, 0, cell.length, cell.digest, None),)
    found = list_items(cell.text)
    if found is None:
        raise ValueError("the image is a list that cannot be read; expected ['base64', 'base64', …]")
    return tuple(
        _place(cell, first, last, xxhash.xxh3_128_digest(cell.text[first:last]), number)
        for number, (first, last) in enumerate(found)
    )


def _place(cell: ImageCell, first: int, last: int, digest: bytes, item: int | None) -> ImagePlace:
    """The place of the image whose text is ``first:last`` of a cell, in bytes."""
    head = cell.text[first : min(first + SHORT, last)]
    prefix = _DATA_URL.match(head)
    begin = first + prefix.end() if prefix else first
    if not _BASE64.fullmatch(head, prefix.end() if prefix else 0):
        text = shown(head.decode(errors="replace"))
        raise ValueError(f"the image is {text}, which is neither base64 nor a list of it; the file is corrupt")
    if (last - begin) % 4 and item is None and not cell.quoted:  # without line ends in it
        raise ValueError(
            f"the image has {last - begin:,} characters, which cannot be base64; the file is truncated or corrupt"
        )
    return ImagePlace(digest, last - first, cell.offset + begin, last - begin, item)


class KnownImages:
    """The images of one file: one object for each, however often its text is repeated."""

    def __init__(self, file: TsvSource) -> None:
        self._file = file
        self._known: dict[bytes, TsvImage] = {}

    def at(self, place: ImagePlace, line: int, index: str) -> TsvImage:
        """The image at a place in the row ``index``."""
        key = place.digest + place.whole.to_bytes(8)
        found = self._known.get(key)
        if found is None:
            found = TsvImage(self._file, place.offset, place.length, line, index, place.item)
            self._known[key] = found
        return found


def list_items(content: bytes) -> list[tuple[int, int]] | None:
    """Where the texts of a list literal (Python's or JSON's) are, without their quotes; None if it is none, or empty.

    Quotes may be doubled, as in a cell in quotes.  Texts with a quote in them are not supported.
    """
    found: list[tuple[int, int]] = []
    at = 1
    while True:
        at = _after_blanks(content, at)
        quote = b'""' if content.startswith(b'""', at) else content[at : at + 1]
        first = at + len(quote)
        last = content.find(quote, first) if quote in (b"'", b'"', b'""') else -1
        if last < 0:
            return None
        found.append((first, last))
        at = _after_blanks(content, last + len(quote))
        if content[at : at + 1] != b",":
            return found if content[at:].strip() == b"]" else None
        at += 1


def _after_blanks(content: bytes, at: int) -> int:
    while content[at : at + 1].isspace():
        at += 1
    return at
