"""Where the rows of a described task are: a file, several files of one format, the hub, or the description itself.

    rows = "questions.jsonl"                                     # or .json, .csv, .tsv (VLMEvalKit's), .parquet
    rows = ["a.parquet", "b.parquet"]
    rows = { file = "questions.txt", format = "csv", delimiter = ";" }
    rows = { hub = "org/name", config = "default", split = "test" }
    [[rows]]                                                     # a table for each row

``evalkit.row_tables`` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from evalkit.errors import UserError
from evalkit.stated import Stated
from evalkit.values import is_valid_id, name_inside, shown

FORMATS = ("jsonl", "csv", "tsv", "parquet")
SUFFIXES: Mapping[str, str] = {
    ".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
}  # fmt: skip
EXAMPLE = 'a file ("questions.csv"), a list of files, { hub = "org/name", split = "test" }, or tables [[rows]]'
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+()-]{0,95}")


@dataclass(frozen=True)
class Source:
    """Where rows are.

    Attributes:
        files: their names; empty if rows are elsewhere.
        format: of the files, one of ``FORMATS``.
        delimiter: between the cells of a CSV file.
        hub: the id of a data set; empty if rows are elsewhere.
        config: of the data set; None for its only or default one.
        rows: those in the description itself.
        stated: the key that says so, for messages.
    """

    stated: Stated
    key: str
    files: tuple[str, ...] = ()
    format: str = ""
    delimiter: str = ","
    hub: str = ""
    config: str | None = None
    split: str = ""
    rows: Sequence[Mapping[str, Any]] = ()

    @property
    def where(self) -> str:
        """Its place in the description, for messages."""
        return self.stated.where(self.key)


def read_source(stated: Stated, key: str) -> Source:
    """The source under ``key``.

    Raises:
        UserError: it is none of those in the module's documentation.
    """
    value = stated.values[key]
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        return Source(stated, key, rows=value)
    if isinstance(value, str | list):
        files = stated.texts(key, EXAMPLE)
        if not files:
            stated.wrong(key, EXAMPLE)
        return Source(stated, key, files, _format(stated, key, files, None))
    table = stated.table(key, EXAMPLE)
    if "hub" in table:
        table.check_keys(("hub", "config", "split"))
        hub, split = table.text("hub", 'a data set, "org/name"'), table.text("split", 'a split, such as "test"')
        config = table.text("config", "a name") if "config" in table else None
        if not _HUB_ID.fullmatch(hub) or ".." in hub:
            table.wrong("hub", 'a data set of the hub, "org/name"')
        for name in ("split", "config"):
            if name in table and not _HUB_NAME.fullmatch(str(table.values[name])):
                table.wrong(name, "a name")
        return Source(stated, key, hub=hub, config=config, split=split)
    table.check_keys(("file", "format", "delimiter"))
    files = table.texts("file", "a file, or a list of files")
    if not files:
        table.missing("file", EXAMPLE)
    form = _format(table, "file", files, table.one_of("format", FORMATS, "csv") if "format" in table else None)
    delimiter = table.values.get("delimiter", ",")
    if "delimiter" in table and (form != "csv" or not isinstance(delimiter, str) or len(delimiter) != 1):
        table.wrong("delimiter", "one character, for a CSV file")
    if delimiter in ('"', "\n", "\r", "\0"):
        table.wrong("delimiter", "a comma, a semicolon, a tab or another character between cells")
    return Source(stated, key, files, form, delimiter)


def _format(stated: Stated, key: str, files: Sequence[str], given: str | None) -> str:
    """The format of all files, by their names unless it is ``given``."""
    if given is not None:
        return given
    found = {SUFFIXES.get(PurePath(name).suffix.lower(), "") for name in files}
    if "" in found or len(found) > 1:
        stated.wrong(
            key, f"files of one format, whose names end in {', '.join(SUFFIXES)}; or {{ file = …, format = … }}"
        )
    return found.pop()


def path_inside(folder: Path, name: str, what: str, where: str) -> str:
    """The normalized name of a file in ``folder``.

    Args:
        what: the file is, and ``where`` it is named, for messages.

    Raises:
        UserError: no file can have this name, or it leads out of the folder.
    """
    try:
        return name_inside(name, str(folder), what, task=where)
    except UserError:
        if not is_valid_id(name):
            raise
        raise UserError(
            f"{where}: the {what} {shown(name)} is outside of {folder}, which names of files are relative to; put the "
            'TOML file into a folder above all files, or say relative_to = "data" and give that folder with --data.'
        ) from None
