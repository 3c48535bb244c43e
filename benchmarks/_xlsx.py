"""Reads the first sheet of an .xlsx file, with the standard library only: enough for VLMEvalKit's result files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

SPACE = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def rows(path: Path) -> Iterator[dict[str, str]]:
    """One dictionary per row, by the names in the first row; empty cells are missing."""
    with ZipFile(path) as archive:
        shared = _shared(archive)
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    header: dict[str, str] = {}
    for row in sheet.iterfind(".//x:row", SPACE):
        cells = {}
        for cell in row.iterfind("x:c", SPACE):
            column = re.sub(r"\d", "", cell.get("r", ""))
            text = _text(cell, shared)
            if text is not None:
                cells[column] = text
        if header:
            yield {header[column]: text for column, text in cells.items() if column in header}
        else:
            header = cells


def _shared(archive: ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    table = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
    return ["".join(t.text or "" for t in entry.iterfind(".//x:t", SPACE)) for entry in table.iterfind("x:si", SPACE)]


def _text(cell: ElementTree.Element, shared: list[str]) -> str | None:
    if cell.get("t") == "inlineStr":
        return "".join(t.text or "" for t in cell.iterfind(".//x:t", SPACE))
    value = cell.find("x:v", SPACE)
    if value is None or value.text is None:
        return None
    return shared[int(value.text)] if cell.get("t") == "s" else value.text
