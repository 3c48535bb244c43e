"""The rows of a predictions file: JSON in several layouts, or a table."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.jsonl import SPELLED, Number, objects, parse
from evalkit.workbook import rows_of_workbook

Row = Mapping[str, Any]

_BLANK = re.compile(r"\s*")

ZIP, OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
"""How .xlsx and .xls files begin."""
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def rows_of(content: bytes, path: Path) -> list[tuple[str, Row]]:
    """(place, row) pairs of a predictions file, in its order; ``place`` is for messages.

    Raises:
        UserError: the content is not as its format demands; the message names the place.
    """
    if content.startswith((ZIP, OLD_EXCEL)):
        return list(_excel_rows(content, path))
    if path.suffix.lower() in DELIMITERS:
        return list(_delimited_rows(content, path))
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.lstrip()[:1] == b"[":
        try:
            entries = parse(content, spelled=True)
        except ValueError as error:
            raise UserError(f"{path}: not valid JSON ({error}); it may be truncated.") from error
        return _entries(entries, path)
    if _is_indented(content):
        return _stream_rows(content, path)
    rows: list[tuple[str, Row]] = [(f"line {number}", row) for number, row in objects(content, str(path), spelled=True)]
    return _unwrapped(rows, path)


def _entries(entries: Iterable[Any], path: Path) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise UserError(f"{path}, entry {number}: expected a JSON object, not {type(entry).__name__}.")
        rows.append((f"entry {number}", entry))
    return rows


def _is_indented(content: bytes) -> bool:
    """Whether the content begins with an object of several lines, rather than with a corrupt line."""
    first, _, rest = content.lstrip().partition(b"\n")
    if first.strip() == b"{":
        return True
    try:
        parse(first)
    except ValueError:
        return first[:1] == b"{" and rest.lstrip()[:1] not in (b"{", b"")
    return False


def _stream_rows(content: bytes, path: Path) -> list[tuple[str, Row]]:
    """The rows of JSON objects one after the other, each over several lines."""
    rows: list[tuple[str, Row]] = []
    try:
        text = content.decode()
        end = _BLANK.match(text, 0).end()  # type: ignore[union-attr]
        while end < len(text):
            value, end = SPELLED.raw_decode(text, end)
            if not isinstance(value, dict):
                raise UserError(f"{path}: expected JSON objects, not {type(value).__name__}.")
            rows.append((f"object {len(rows) + 1}", value))
            end = _BLANK.match(text, end).end()  # type: ignore[union-attr]
        if "\\ud" in text.lower():  # an escaped half of a surrogate pair: JSON allows it, UTF-8 does not
            json.dumps([row for _, row in rows], ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); the file may be truncated."
        ) from error
    except UnicodeError as error:
        raise UserError(f"{path}: not valid JSON (no valid Unicode: {error.reason}).") from error  # type: ignore[attr-defined]
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}: not valid JSON ({reason}).") from error
    return _unwrapped(rows, path)


def _unwrapped(rows: list[tuple[str, Row]], path: Path) -> list[tuple[str, Row]]:
    """The entries of a single object with one list of objects (``{"results": [{…}, …]}``); other rows as they are."""
    if len(rows) != 1:
        return rows
    lists = [value for value in rows[0][1].values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return _entries(lists[0], path) if len(lists) == 1 else rows


# -------------------------------------------------------------------------------------------------------------- tables


def _delimited_rows(content: bytes, path: Path) -> Iterator[tuple[str, Row]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid UTF-8 ({error.reason}).") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=DELIMITERS[path.suffix.lower()], strict=True)
    try:
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise UserError(f"{path}, row {number}: it has not as many cells as the header; the file is corrupt.")
            yield f"row {number}", row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from error


def _excel_rows(content: bytes, path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of a workbook's first sheet; an empty cell is an empty text."""
    if content.startswith(OLD_EXCEL):
        raise UserError(f"{path}: the old Excel format (.xls) is not supported; save the file as .xlsx or .csv.")
    table = rows_of_workbook(content, path)
    header = [str(cell) for cell in table[0]] if table else []
    for number, cells in enumerate(table[1:], start=1):
        if any(cell is not None for cell in cells):
            yield f"row {number}", {key: _cell(cell) for key, cell in zip(header, cells, strict=False)}


def _cell(value: Any) -> Any:
    """A cell as in JSON: integral numbers as integers, an empty cell as an empty text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return int(value) if value.is_integer() else Number(repr(value))
    return value
