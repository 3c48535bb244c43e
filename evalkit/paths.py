"""Paths given by users; impossible ones raise ``UserError``."""

from __future__ import annotations

import errno
from pathlib import Path

from evalkit.errors import UserError

IMPOSSIBLE = (errno.ENAMETOOLONG, errno.ELOOP)
SHOWN = 60


def user_path(given: str, option: str) -> Path:
    """``given`` as a path, with the home folder in place of ``~``; the path need not exist.

    Args:
        option: how messages refer to it, such as ``--data``.

    Raises:
        UserError: no file can have this name, or there is no such user's home.
    """
    shown = given if len(given) <= SHOWN else f"{given[:SHOWN]}…"
    if "\0" in given:
        raise UserError(f"{option} {given!r}: a path cannot have a NUL character.")
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise UserError(f"{option} {shown}: there is no user {Path(given).parts[0]} with a home folder.") from None
    try:
        path.stat()
    except OSError as error:
        if error.errno in IMPOSSIBLE:
            raise UserError(f"{option} {shown}: {error.strerror}; give another path.") from None
    return path
