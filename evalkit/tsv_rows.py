"""The rows of a TSV file, read one by one or, for a large file, in parts by several processes (see ``evalkit.tsv``).

*Parts.*  A file may be read from the beginning of any row, but whether a line end ends a row, or stands in a text in
quotes, is known only to those who read all rows before it.  So the file is divided at line ends that look like ends of
rows, each part is read from one to the next by a process of its own, and the rows of a part are taken if the part
before it ended exactly where it begins.  Otherwise, and after any error in a part, the rest of the file is read here,
one row after another: rows, messages and their line numbers are the same in every case.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, NamedTuple, cast

from evalkit.errors import UserError
from evalkit.garbage import garbage_collection_paused
from evalkit.tsv_cells import SHORT, CellReader, ImageCell, open_tsv
from evalkit.tsv_images import ImagePlace, TsvSource, places_in
from evalkit.values import is_valid_id, shown
from evalkit.waiting import work_meanwhile

log = logging.getLogger(__name__)

INDEX, IMAGE = "index", "image"
MISSING = frozenset({"", "nan", "NaN"})
SMALLEST_PART = 1 << 29
"""In bytes: 512 MB take half a second to read."""
MOST_PARTS = 8
NEAR = 16 << 20
"""How far from where a part would ideally begin its beginning is searched, in bytes."""
BATCH = 2048
"""Rows that the process of a part writes at once."""
LARGEST_TEXT = 512 << 20
"""Limit of all cells but the images, in bytes, since they are held."""
CODE = (
    "import json, sys; task = json.loads(sys.argv[1]); sys.path[:] = task.pop('sys_path'); "
    "from evalkit.tsv_rows import write_part; write_part(**task)"
)

_WHOLE_NUMBER = re.compile(r"(-?[0-9]+)\.0+")


class Row(NamedTuple):
    """A row as it is read.

    Attributes:
        line: in which it begins, from 1.
        id: its index, as other rows refer to it.
        texts: its cells; that of the column ``image`` is empty.
        content: what the digest of the file is made of.
        pointer: the index in its cell ``image``; empty if that has images or nothing.
        images: where they are.
    """

    line: int
    id: str
    texts: tuple[str, ...]
    content: str
    pointer: str
    images: tuple[ImagePlace, ...]


def read_rows(reader: CellReader, columns: Mapping[str, int], source: TsvSource) -> Iterator[Row]:
    """All rows after the header, in order.

    Args:
        reader: has read the header.
        columns: their numbers.

    Raises:
        UserError: a row is not as ``evalkit.tsv`` says; the message has the line.
    """
    places = _places(reader, len(columns), source.size)
    if len(places) > 2:
        with ExitStack() as stack:
            parts = [stack.enter_context(_Part(columns, source, *ends)) for ends in pairwise(places)]
            work_meanwhile()
            for number, part in enumerate(parts, 1):
                if part.begin != reader.offset or not part.succeeded():
                    log.debug("%s: from part %d of %d on, it is read by one process", reader.name, number, len(parts))
                    break
                yield from part.rows(reader)
    yield from rows_until(reader, columns, None)


def rows_until(reader: CellReader, columns: Mapping[str, int], end: int | None) -> Iterator[Row]:
    """The rows that begin before the offset ``end``; None: all.  Raises as ``read_rows``."""
    image_column = columns.get(IMAGE)
    index_column = columns[INDEX]
    known: dict[str, str] = {}
    encode = json.JSONEncoder(check_circular=False).encode
    while (end is None or reader.offset < end) and (row := reader.row(image_column)) is not None:
        if len(row) != len(columns):
            raise reader.error(
                f"the row has {len(row)} cells, and the header {len(columns)}; the file is truncated, or a "
                "tab or a line end stands in a text that is not in quotes"
            )
        digest = pointer = ""
        images: tuple[ImagePlace, ...] = ()
        if image_column is not None and isinstance(image := row[image_column], ImageCell):
            digest, row[image_column] = image.digest.hex(), ""
            pointer, images = _images(reader, image)
        # Categories and answers repeat: one text for all.
        cells = cast(list[str], row)
        texts = tuple([known.setdefault(cell, cell) if len(cell) < 32 else cell for cell in cells])
        index = plain_index(texts[index_column])
        if not is_valid_id(index) or index in MISSING:
            raise reader.error(f"the index is {shown(texts[index_column])}; expected a number or a short text")
        yield Row(reader.row_line, index, texts, encode([*texts, digest]), pointer, images)


def plain_index(text: str) -> str:
    """An index as others refer to it: ``7`` for ``7.0``."""
    text = text.strip()
    number = _WHOLE_NUMBER.fullmatch(text) if "." in text else None
    return number[1] if number else text


def _images(reader: CellReader, cell: ImageCell) -> tuple[str, tuple[ImagePlace, ...]]:
    """The index of another row in a cell, or the places of the images in it; neither if it is empty."""
    if cell.length > SHORT:
        try:
            return "", places_in(cell)
        except ValueError as error:
            raise reader.error(f"{error}; download it again") from None
    text = cell.text.decode(errors="replace").strip()
    return ("" if text in MISSING else plain_index(text)), ()


# -------------------------------------------------------------------------------------------------------------- parts


def _places(reader: CellReader, columns: int, size: int) -> list[int]:
    """Where the parts begin, and where the last one ends; only one part if several would gain nothing."""
    count = min(len(os.sched_getaffinity(0)), MOST_PARTS, size // SMALLEST_PART)
    found = [reader.offset]
    for number in range(1, count):
        place = _row_near(reader, size * number // count, columns)
        if place is not None and place > found[-1]:
            found.append(place)
    return [*found, size]


def _row_near(reader: CellReader, place: int, columns: int) -> int | None:
    """The beginning of a line after ``place`` with the tabs of a row with ``columns``; None if there is none near."""
    content = reader.content(place, NEAR)
    begin = content.find(b"\n") + 1
    while begin:
        end = content.find(b"\n", begin)
        if end >= 0 and content.count(b"\t", begin, end) == columns - 1:
            return place + begin
        begin = end + 1
    return None


class _Part:
    """A part of the file, whose rows another process writes into a temporary file.

    Attributes:
        begin: the offset of its first row.
    """

    def __init__(self, columns: Mapping[str, int], source: TsvSource, begin: int, end: int) -> None:
        self.begin = begin
        self._rows: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        output = self._rows.fileno()  # not stdout, on which anything that Python imports may print
        task = {**asdict(source), "columns": dict(columns), "begin": begin, "end": end, "output": output}
        paths = [path for path in sys.path if isinstance(path, str)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", CODE, json.dumps({**task, "sys_path": paths})],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(output,),
            )  # fmt: skip
        except (OSError, TypeError, ValueError):  # too few resources, no interpreter, a name with a NUL
            log.debug("%s: no process could be started", source.path, exc_info=True)

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._rows.close()

    def succeeded(self) -> bool:
        """Whether all its rows were read; waits for the process."""
        return self._process is not None and self._process.wait() == 0

    def rows(self, reader: CellReader) -> Iterator[Row]:
        """Its rows; ``reader`` then goes on after them."""
        self._rows.seek(0)
        lines = reader.line - 1
        while isinstance(found := pickle.load(self._rows), list):
            for row in found:
                yield Row(row[0] + lines, *row[1:])
        offset, line = found
        reader.go_to(offset, line + lines)


def write_part(
    path: str, size: int, mtime_ns: int, columns: Mapping[str, int], begin: int, end: int, output: int
) -> None:
    """Write the rows of a part of a file, pickled, and the offset and line after them; exit with 1 if that cannot be
    done.

    Args:
        output: the file descriptor that they are written to.
    """
    try:
        with open_tsv(Path(path)) as file, os.fdopen(output, "wb") as out, garbage_collection_paused():
            if TsvSource.of(file, path) != TsvSource(path, size, mtime_ns):
                sys.exit(1)
            reader, texts = CellReader(file, path, begin), 0
            found = rows_until(reader, columns, end)
            while rows := list(islice(found, BATCH)):
                texts += sum(len(text) for row in rows for text in row.texts)
                if texts > LARGEST_TEXT:
                    sys.exit(1)
                pickle.dump(list(map(tuple, rows)), out, pickle.HIGHEST_PROTOCOL)
            pickle.dump((reader.offset, reader.line), out)
    except (UserError, OSError):  # the process that has the whole file says so, with the right line
        sys.exit(1)
