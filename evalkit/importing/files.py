"""Bounded reading of files that may be damaged or hostile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import parse

LARGEST_FILE = 1 << 30
"""Bytes of a file that is read at once."""
LARGEST_LINE = 64 << 20
"""Bytes of a line, or of one sample in an archive."""
MOST_ENTRIES, DEEPEST = 20_000, 6
"""Limits of a folder that is searched."""


def open_file(path: Path) -> int:
    """A descriptor of a regular file.  Raises ``UserError`` if it cannot be read or is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the file cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: it is not a regular file.")
    return descriptor


def content_of(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The content of a file of at most ``largest`` bytes.  Raises ``UserError``."""
    with os.fdopen(open_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise UserError(f"{path} has {size:,} bytes; files of at most {largest:,} are read.")
        try:
            return file.read(largest)
        except OSError as error:
            raise UserError(f"{path}: the file cannot be read ({error.strerror}).") from error


def json_of(path: Path) -> Any:
    """The JSON value of a file; NaN and infinities, which Python writes, are accepted.  Raises ``UserError``."""
    return json_value(content_of(path), str(path))


def json_value(content: bytes, name: str) -> Any:
    """The JSON value of ``content``, as ``json_of``.  Raises ``UserError``; ``name`` is how the message calls it."""
    try:
        return parse(content, constants=True)
    except ValueError as error:
        raise UserError(f"{name}: not valid JSON ({error}); it may be truncated.") from error


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for every line that is not blank, one at a time.

    Raises:
        UserError: a line is too long or no JSON object, or the file cannot be read.
    """
    with os.fdopen(open_file(path), "rb") as file:
        number = 0
        while True:
            number += 1
            try:
                raw = file.readline(LARGEST_LINE + 1)
            except OSError as error:
                raise UserError(f"{path}: the file cannot be read ({error.strerror}).") from error
            if not raw:
                return
            if len(raw) > LARGEST_LINE:
                raise UserError(f"{path}, line {number}: it has more than {LARGEST_LINE:,} bytes.")
            if not raw.strip():
                continue
            value = json_value(raw, f"{path}, line {number}")
            if not isinstance(value, dict):
                raise UserError(f"{path}, line {number}: expected a JSON object, not {type(value).__name__}.")
            yield number, value


def first_object(path: Path) -> dict[str, Any]:
    """The first object of a file of JSON lines.  Raises ``UserError`` if there is none."""
    for _, row in json_lines(path):
        return row
    raise UserError(f"{path} is empty.")


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and the folders in it, sorted; links are not followed.

    Raises:
        UserError: there are too many, or the folder cannot be read.
    """
    found: list[Path] = []
    seen = 0
    base = len(folder.parts)
    for root, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > MOST_ENTRIES:
            raise UserError(f"{folder} has more than {MOST_ENTRIES:,} files; give the folder of one run, or its files.")
        place = Path(root)
        folders[:] = sorted(folders) if len(place.parts) - base < DEEPEST else []
        found += [place / name for name in sorted(names) if not (place / name).is_symlink()]
    return found
