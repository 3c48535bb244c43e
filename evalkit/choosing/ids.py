"""The file of ``--ids``: the ids of samples, one per line, as a JSON list, or in a column of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import Number, parse, read_bytes
from evalkit.paths import user_path
from evalkit.prediction_files import DELIMITERS, rows_of
from evalkit.values import shown

COLUMNS = ("id", "question_id", "questionId", "index", "image_id")
"""The columns of a table that can hold ids; the first one that it has is used."""
LARGEST = 1 << 26
OPTION = "--ids"


def read_ids(name: str) -> tuple[str, ...]:
    """The ids in a file, in its order and without duplicates.

    Raises:
        UserError: it is missing, empty, or in another format; the message names the line.
    """
    path = user_path(name, OPTION)
    content = read_bytes(path, OPTION)
    if len(content) > LARGEST:
        raise UserError(
            f"{OPTION} {path}: it has {len(content):,} bytes, which no list of ids has; is it the right one?"
        )
    first = content.lstrip()[:1]
    if path.suffix.lower() in DELIMITERS or first == b"{":
        found = _of_table(content, path)
    elif first == b"[":
        found = _of_list(content, path)
    else:
        try:
            found = [line.strip() for line in content.decode("utf-8-sig").split("\n") if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(
                f"{OPTION} {path}: not valid UTF-8 ({error.reason}); give one id per line, a JSON list, or a .csv file."
            ) from error
    if not found:
        raise UserError(f"{OPTION} {path}: there is no id in it.")
    return tuple(dict.fromkeys(found))


def _of_list(content: bytes, path: Path) -> list[str]:
    try:
        values = parse(content, spelled=True)
    except ValueError as error:
        raise UserError(f"{OPTION} {path}: not valid JSON ({error}); it may be truncated.") from error
    if all(isinstance(value, dict) for value in values):
        return _of_table(content, path)
    return [_id(value, path, f"entry {number}") for number, value in enumerate(values, start=1)]


def _of_table(content: bytes, path: Path) -> list[str]:
    rows = rows_of(content, path)
    if not rows:
        return []
    column = next((name for name in COLUMNS if name in rows[0][1]), None)
    if column is None:
        has = ", ".join(map(shown, rows[0][1])) or "no columns"
        raise UserError(f"{OPTION} {path}: it has {has}; expected a column {' or '.join(COLUMNS)}.")
    return [_id(row.get(column), path, f"{place}: {column}") for place, row in rows]


def _id(value: Any, path: Path, place: str) -> str:
    if isinstance(value, Number):
        return value.literal
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{OPTION} {path}, {place} is {shown(value)}; expected an id, a text or an integer.")
    return str(value)
