"""What benchmarks of mathematical problems share: option lists and the files of their own repositories."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.data import OfficialData, shown
from evalkit.errors import UserError
from evalkit.jsonl import objects, read_bytes

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LONGEST_LIST = 100_000


def option_texts(value: Any) -> tuple[str, ...]:
    """The option texts in ``value``: a list, the literal of one in a text, or None for no options.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str):
        value = literal_list(value)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(option, str) for option in value):
        raise ValueError(f"the options are {shown(value)}, not a list of texts")
    if len(value) > len(LETTERS):
        raise ValueError(f"there are {len(value)} options, and letters for {len(LETTERS)}")
    return tuple(value)


def literal_list(text: str) -> list[Any] | None:
    """The list whose literal ``text`` is; None for an empty text or ``None``.  Raises ``ValueError`` otherwise."""
    if not text.strip() or text.strip() == "None":
        return None
    if len(text) > LONGEST_LIST:
        raise ValueError("a list is longer than any of this data set")
    try:
        found = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"{shown(text)} is not a list") from error
    if not isinstance(found, list):
        raise ValueError(f"{shown(text)} is not a list")
    return found


def lettered(options: Sequence[str]) -> str:
    """A line ``(A) …`` per option."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def present(data: OfficialData, *candidates: str) -> str | None:
    """The first of ``candidates`` (paths below the root) that exists."""
    return next((candidate for candidate in candidates if (data.root / candidate).exists()), None)


def json_lines(path: Path, *, task: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, object) of every line of a file.  Raises ``UserError`` if it is missing, corrupt or empty."""
    rows = [(f"{path}, line {number}", row) for number, row in objects(read_bytes(path, f"{task}:"), str(path))]
    if not rows:
        raise UserError(f"{task}: {path} holds no problems; download it again.")
    yield from rows
