"""The cells of a tab-separated file, one row at a time, without holding its long cells.

The format is what pandas writes with ``sep="\\t"``: UTF-8; rows end with ``\\n`` or ``\\r\\n``; a cell with a tab, a
line end or a quote in it is in double quotes, with its own quotes doubled.  A quote inside a cell that does not begin
with one is an ordinary character, as for pandas.

VLMEvalKit's files hold images in base64, gigabytes of them.  The file is read in pieces; of a cell in an image column
only the place in the file and a digest are kept, unless it is short.
"""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import xxhash

from evalkit.errors import UserError
from evalkit.jsonl import BOM

CHUNK = 1 << 20
LARGEST_CELL = 256 << 20
"""Limit of a cell and of a line, in bytes: more than any image has in base64; refuses a quote that is never closed."""
SHORT = 64
"""Longest value of an image cell that can be the index of another row, in bytes (as in VLMEvalKit)."""

TAB, LINE_END, QUOTE, RETURN = b'\t\n"\r'
_QUOTE = b'"'


class ImageCell(NamedTuple):
    """A cell of an image column.

    Attributes:
        offset: of its content in the file, in bytes; quotes around it are not included.
        length: of its content in the file, in bytes.
        quoted: whether it was in quotes, so that quotes in its content are doubled.
        text: its content if it is at most ``SHORT`` bytes long or begins with ``[``, else its beginning.
        digest: of its content in the file.
    """

    offset: int
    length: int
    quoted: bool
    text: bytes
    digest: bytes


OTHER_FORMATS = {
    b"PK\x03\x04": "a ZIP archive or an Excel file; unpack it, or save it as tab-separated text",
    b"\x1f\x8b": "compressed (gzip); unpack it",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"PAR1": "a Parquet file; save it as tab-separated text",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; download it again",
    b"<": "a web page (HTML) or XML, not tab-separated text; download it again",
}
"""What a file is by its first bytes, and what to do."""


def open_tsv(path: Path, prefix: str = "") -> FileIO:
    """``path``, opened.

    Args:
        prefix: the beginning of messages.

    Raises:
        UserError: it cannot be read, is not a regular file, or begins as a file in another format does.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would block
        file = FileIO(descriptor)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file can have this name"
        raise UserError(f"{prefix}{path}: the file cannot be read ({reason}).") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise UserError(f"{prefix}{path}: the file cannot be read (it is not a regular file).")
    beginning = os.pread(descriptor, 64, 0).removeprefix(BOM).lstrip()
    for magic, found in OTHER_FORMATS.items():
        if beginning.startswith(magic):
            file.close()
            raise UserError(f"{prefix}{path} is {found}.")
    return file


class CellReader:
    """Reads rows of cells from ``file``.

    Args:
        name: of the file, for messages.
        begin: the offset in the file of the first row, whose line is then taken for the first.
    """

    def __init__(self, file: FileIO, name: str, begin: int = 0) -> None:
        self.name = name
        self.line = 1
        """The line of the file, from 1, in which the next row begins."""
        self.row_line = 1
        """The line in which the latest row begins."""
        self._file = file
        self._buffer = bytearray(2 * CHUNK)
        self.go_to(begin, 1)
        if not begin and self._byte(len(BOM) - 1) is not None and self._buffer.startswith(BOM):
            self._at = len(BOM)

    def go_to(self, offset: int, line: int) -> None:
        """Go on with the row at ``offset``, in ``line``."""
        self.line = line
        self._file.seek(offset)
        self._filled = 0  # bytes in the buffer
        self._base = offset  # offset in the file of the buffer's first byte
        self._keep = offset  # bytes before this offset are no longer needed
        self._at = offset  # offset of the next cell
        self._newline = -1  # offset of the first line end from the current cell on, or the end of the file

    @property
    def offset(self) -> int:
        """Where the next row begins in the file, in bytes."""
        return self._at

    def content(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes of the file."""
        return os.pread(self._file.fileno(), length, offset)

    def row(self, image_column: int | None = None) -> list[str | ImageCell] | None:
        """The cells of the next row, None after the last one; empty lines are skipped.

        Raises:
            UserError: a cell is not as the format demands; the message has the line in which the row begins.
        """
        while (first := self._byte(self._at)) in (LINE_END, RETURN):
            if first == LINE_END:
                self.line += 1
            elif self._byte(self._at + 1) not in (LINE_END, None):
                break
            self._at += 1
        if first is None:
            return None
        self.row_line = self.line
        self._keep = self._at
        found = self._row_without_quotes(image_column)
        if found is not None:
            return found
        cells: list[str | ImageCell] = []
        while True:
            start = self._keep = self._at
            quoted = self._byte(start) == QUOTE
            start += quoted
            end = self._closing_quote(start) if quoted else self._end(start)
            is_image = len(cells) == image_column
            cells.append(self._image(start, end, quoted) if is_image else self._text(start, end, quoted))
            if not self._next(end + quoted):
                return cells

    def _row_without_quotes(self, image_column: int | None) -> list[str | ImageCell] | None:
        """As ``row``, several times as fast; None if there is a quote among the texts, or no image cell."""
        newline = self._line_end(self._at)
        buffer, base = self._buffer, self._base
        start, end = self._at - base, newline - base
        if end > start and buffer[end - 1] == RETURN:
            end -= 1
        first = last = end
        if image_column is not None:
            first = start
            for _ in range(image_column):
                first = buffer.find(b"\t", first, end) + 1
                if not first:
                    return None
            last = buffer.find(b"\t", first, end)
            last = end if last < 0 else last
        texts = buffer[start:first] + buffer[last:end]
        if _QUOTE in texts or (last > first and buffer[first] == QUOTE):
            return None
        cells: list[str | ImageCell] = [*self._decoded(texts).split("\t")]
        if image_column is not None:
            cells[image_column] = self._image(base + first, base + last, quoted=False)
        self._at = newline + 1
        self.line += 1
        return cells

    def _next(self, at: int) -> bool:
        """Go to the next cell of the row, or to the next row; ``at`` is the offset after a cell.

        Returns:
            Whether the row goes on.
        """
        byte = self._byte(at)
        if byte == RETURN and self._byte(at + 1) in (LINE_END, None):
            at += 1
            byte = self._byte(at)
        self._at = at + 1
        if byte == LINE_END:
            self.line += 1
        elif byte not in (TAB, None):
            raise self.error(
                "there is text after the closing quote of a cell; in a cell in quotes, a quote of the text is written "
                'as two (""). Correct the file, or download it again'
            )
        return byte == TAB

    def _end(self, start: int) -> int:
        """The end of the cell without quotes that begins at ``start``."""
        end = self._line_end(start)
        tab = self._tab(start, end)
        if tab >= 0:
            return tab
        return end - 1 if end > start and self._byte(end - 1) == RETURN else end

    def _closing_quote(self, start: int) -> int:
        """The offset of the quote that closes the cell whose content begins at ``start``."""
        end = self._find(_QUOTE, start)
        while end >= 0 and self._byte(end + 1) == QUOTE:
            end = self._find(_QUOTE, end + 2)
        if end < 0:
            raise self.error(
                "a cell begins with a quote that is never closed; the file is truncated, or a text with a quote at its "
                'beginning is not in quotes of its own. Download it again, or write """…'
            )
        self.line += self._buffer.count(b"\n", start - self._base, end - self._base)
        return end

    def _text(self, start: int, end: int, quoted: bool) -> str:
        content = self._bytes(start, end)
        return self._decoded(content.replace(b'""', b'"') if quoted else content)

    def _decoded(self, content: bytes | bytearray) -> str:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"a cell is not valid UTF-8 ({error.reason}); save the file as UTF-8") from error
        if "\0" in text:
            raise self.error("a cell has NUL bytes in it; the file is corrupt, or is not UTF-8 text: download it again")
        return text

    def _image(self, start: int, end: int, quoted: bool) -> ImageCell:
        first, last = start - self._base, end - self._base
        digest = xxhash.xxh3_128_digest(memoryview(self._buffer)[first:last])
        is_list = self._buffer.startswith(b"[", first, last)
        text = self._bytes(start, end if is_list else min(end, start + SHORT))
        return ImageCell(start, end - start, quoted, text, digest)

    def error(self, message: str) -> UserError:
        """An error in the latest row."""
        return UserError(f"{self.name}, line {self.row_line}: {message}.")

    # ---------------------------------------------------------------------------------------------------- the buffer

    def _bytes(self, start: int, end: int) -> bytes:
        return bytes(self._buffer[start - self._base : end - self._base])

    def _byte(self, at: int) -> int | None:
        """The byte at an offset, None after the end of the file."""
        while at - self._base >= self._filled:
            if not self._read():
                return None
        return self._buffer[at - self._base]

    def _tab(self, start: int, end: int) -> int:
        """The offset of the first tab from ``start`` to ``end``, which are in the buffer; -1 if there is none."""
        found = self._buffer.find(b"\t", start - self._base, end - self._base)
        return found if found < 0 else self._base + found

    def _line_end(self, start: int) -> int:
        """The offset of the first line end from ``start`` on, or of the end of the file."""
        if self._newline < start:
            found = self._find(b"\n", start)
            self._newline = self._base + self._filled if found < 0 else found
        return self._newline

    def _find(self, what: bytes, start: int) -> int:
        """The offset of the first ``what``, a single byte, from ``start`` on; -1 if there is none."""
        while True:
            found = self._buffer.find(what, start - self._base, self._filled)
            if found >= 0:
                return self._base + found
            start = max(start, self._base + self._filled)
            if not self._read():
                return -1

    def _read(self) -> bool:
        """Read a piece of the file into the buffer, in the place of what is no longer needed; False at its end."""
        kept = self._filled - (self._keep - self._base)
        if self._keep > self._base:
            self._buffer[:kept] = self._buffer[self._keep - self._base : self._filled]
            self._base, self._filled = self._keep, kept
        if kept > LARGEST_CELL:
            raise self.error(
                f"a line or a cell of more than {LARGEST_CELL >> 20} MB begins here; the file is not tab-separated "
                "text, or a quote is never closed"
            )
        if len(self._buffer) < kept + CHUNK:
            self._buffer += bytes(len(self._buffer))
        with memoryview(self._buffer) as whole, whole[kept : kept + CHUNK] as piece:
            count = self._file.readinto(piece) or 0
        self._filled += count
        return count > 0
