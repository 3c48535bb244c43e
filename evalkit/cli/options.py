"""``--format`` and ``--out``, as the verbs that print tables have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import UserError
from evalkit.settings import split_list


def chosen(given: Sequence[str] | None, known: Sequence[str], out: Path | None, default: Sequence[str]) -> list[str]:
    """The formats asked for: the terminal's without ``--out``, else ``default``.

    Raises:
        UserError: an unknown one, or one that does not go with where it should be written.
    """
    wanted = list(split_list(given)) or (["table"] if out is None else list(default))
    for name in wanted:
        if name not in known:
            raise UserError(f"--format {name}: there are {', '.join(known)}.")
    files = [name for name in known if name != "table"]
    if out is not None and "table" in wanted:
        raise UserError(f"--format table is for the terminal; leave --out away, or choose from {', '.join(files)}.")
    return wanted


def made(out: Path) -> Path:
    """The folder to write into.  Raises ``UserError`` when it cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: the folder cannot be made ({error.strerror}).") from error
    return out
