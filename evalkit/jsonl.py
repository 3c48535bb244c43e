"""Reading JSON lines that somebody else wrote: each problem is a sentence that names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit.errors import UserError


def parse(raw: bytes) -> Any:
    """The JSON value of ``raw`` (UTF-8).  Raises ``ValueError`` for anything that is not JSON, or no text."""
    try:
        value = json.loads(raw.decode("utf-8-sig"))
        if b"\\ud" in raw.lower():  # an escaped half of a surrogate pair: JSON allows it, no file can hold it
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeError as error:
        raise ValueError(f"no valid Unicode: {error.reason}") from None  # type: ignore[attr-defined]
    return value


def read_bytes(path: Path, what: str) -> bytes:
    """A file's content.  Raises ``UserError`` when it cannot be read; ``what`` is what the user gave or asked for."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{what} {path}: the file cannot be read ({error.strerror}).") from error


def objects(content: bytes, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for every line that is not blank.

    Raises:
        UserError: a line that is no JSON object; the sentence names ``name`` and the line.
    """
    for number, raw in enumerate(content.splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            value = parse(raw)
        except ValueError as error:
            raise UserError(f"{name}, line {number}: not valid JSON ({error}); expected one object a line.") from error
        if not isinstance(value, dict):
            raise UserError(f"{name}, line {number}: expected a JSON object, not {type(value).__name__}.")
        yield number, value
