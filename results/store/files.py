"""Atomic file writes: a crash or a full disk leaves either the old file or the new one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from evalkit.errors import RunFailed, UserError


def write_failed(path: Path, error: OSError) -> RunFailed:
    """The error for a file that could not be written."""
    return RunFailed(
        f"{path} cannot be written ({error.strerror}); earlier results are kept. Free some disk space or make the "
        "folder writable, and run the same command to resume."
    )


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``path`` through a temporary file that is synced and renamed.

    Raises:
        RunFailed: it cannot be written; the old file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
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


def to_json(content: Any, *, indent: int | None = None) -> str:
    """``content`` as JSON, with null for NaN and infinities."""
    try:
        return json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_plain(content), ensure_ascii=False, indent=indent, allow_nan=False)


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
