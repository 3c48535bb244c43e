"""Writing files: a crash or a full disk leaves the old file or the new one, and symbolic links are not followed."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from evalkit.errors import RunFailed, UserError


class NotWritable(OSError):
    """A symbolic link, pipe or device is where a file is to be written; it came with the folder."""


def write_failed(path: Path, error: OSError) -> RunFailed | UserError:
    """The error for a file that could not be written."""
    if isinstance(error, NotWritable):
        return UserError(
            f"{path} {error.strerror}; nothing was written through it. Remove it, and run the command again."
        )
    return RunFailed(
        f"{path} cannot be written ({error.strerror}); earlier results are kept. Free some disk space or make the "
        "folder writable, and run the same command to resume."
    )


def open_regular(path: Path, flags: int) -> int:
    """A descriptor of the regular file ``path``, which is created if it is missing.

    Raises:
        NotWritable: it is a symbolic link, or no regular file.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise NotWritable(error.errno, "is a symbolic link", str(path)) from None
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, a socket
            raise NotWritable(error.errno, "is not a regular file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotWritable(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def inside(run: Path, *names: str) -> Path:
    """The path ``run/names…`` for output.  Raises ``UserError`` if a part of it below ``run`` is a symbolic link."""
    path = run
    for name in names:
        path = path / name
        if path.is_symlink():
            raise UserError(f"{path} is a symbolic link, which is not followed; remove it, or give another --out.")
    return path


def empty_folder(path: Path) -> Path:
    """Create ``path`` as an empty folder; an existing one is emptied, a link removed.  Raises ``OSError``."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_atomically(path: Path, content: str | bytes | bytearray) -> None:
    """Write ``path`` through a temporary file that is synced and renamed; a link at ``path`` is replaced.

    Raises:
        RunFailed: it cannot be written; the old file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(open_regular(temporary, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(content.encode(errors="surrogatepass") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise write_failed(path, error) from error


def _plain(value: Any) -> Any:
    """``value`` with None for floats that JSON cannot represent."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
"""``json.dumps`` would make one for each of millions of lines."""


def to_json(content: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """``content`` as JSON, with null for NaN and infinities."""
    try:
        if indent is None and not sort_keys:
            return _ENCODER.encode(content)
        return json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False, sort_keys=sort_keys)
    except ValueError:
        return to_json(_plain(content), indent=indent, sort_keys=sort_keys)


def make_folder(path: Path) -> Path:
    """Create the folder ``path`` for output, and return it.

    Raises:
        UserError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path}: cannot create the folder ({error.strerror}).") from error
    return path
