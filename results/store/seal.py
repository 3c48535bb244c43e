"""Checksums of stored files: one changed bit, or a value edited by hand, is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UserError

from .files import to_json

CHECKSUM = "checksum"


def digest_of_content(content: bytes | bytearray) -> str:
    """The digest of a file's content: 16 hex digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_of_file(path: Path) -> str | None:
    """The digest of a file; None if there is no such file.  Raises ``UserError`` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with its checksum, which does not depend on the order of keys and on white space."""
    return {CHECKSUM: _checksum(content), **content}  # first, so that deleting its line leaves valid JSON


def check_seal(content: Mapping[str, Any], path: Path, advice: str) -> bool:
    """Whether ``content`` has a checksum; older files have none.

    Raises:
        UserError: the checksum is wrong.
    """
    if CHECKSUM not in content:
        return False
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    if content[CHECKSUM] != _checksum(rest):
        raise UserError(f"{path} was changed since evalkit wrote it (its checksum is wrong); {advice}.")
    return True


def _checksum(content: Mapping[str, Any]) -> str:
    text = to_json(content, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
