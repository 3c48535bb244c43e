"""Whether a video file is complete, by the sizes in its headers: decoders read a truncated one as a shorter video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MEDIA = (b"mdat", b"moov", b"moof")
_MOST = 100_000
"""Boxes that are read; more are in no real file."""


def check_complete(path: str) -> None:
    """Check the file at ``path``, if it is in a format that says its size: MP4, MOV, Matroska, WebM, AVI or GIF.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty or truncated.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ValueError(f"{path} is empty")
        start = file.read(12)
        end = max(_ends(file, start, size), default=0)
        if end > size:
            raise ValueError(f"{path} is truncated: it has {size:,} of {end:,} bytes")
        if start[:4] == b"GIF8":
            file.seek(-min(size, 64), os.SEEK_END)
            if b"\x3b" not in file.read():
                raise ValueError(f"{path} is truncated: it has no end")


def _ends(file: IO[bytes], start: bytes, size: int) -> Iterator[int]:
    """Where the parts of the file that hold frames end, as their headers have it."""
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        yield from _boxes(file, size)
    elif start[:4] == _EBML:
        yield from _segment(file)
    elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        yield int.from_bytes(start[4:8], "little") + 8


def _boxes(file: IO[bytes], size: int) -> Iterator[int]:
    """The ends of an MP4 file's boxes of frames and of their index."""
    at = 0
    for _ in range(_MOST):
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if len(header) < 8 or length < 8:  # 0: up to the end of the file
            return
        at += length
        if header[4:8] in _MEDIA:
            yield at
        if at >= size:
            return


def _segment(file: IO[bytes]) -> Iterator[int]:
    """The end of a Matroska file's segment, unless it is of unknown size, as that of a stream."""
    file.seek(4)
    head = _number(file)
    if head is None:
        return
    file.seek(head, os.SEEK_CUR)
    if file.read(4) == _SEGMENT and (length := _number(file)) is not None:
        yield file.tell() + length


def _number(file: IO[bytes]) -> int | None:
    """A size of variable length; None for an unknown or wrong one."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    number = int.from_bytes(bytes([first[0] & ((1 << (7 - more)) - 1)]) + rest, "big")
    return None if len(rest) < more or number == (1 << (7 * (more + 1))) - 1 else number
