"""Tables of rows, read from where ``evalkit.row_sources`` says: JSON, CSV, VLMEvalKit's TSV, parquet, the hub."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.data import HUB, Data, HubData, parquet_rows
from evalkit.errors import UserError, first_line
from evalkit.fingerprint import of_files
from evalkit.images import RowImage
from evalkit.jsonl import BOM, read_bytes
from evalkit.jsonl_sample import entries_of
from evalkit.row_sources import Source, path_inside
from evalkit.stated import plain_value
from evalkit.tsv import OPTIONS, read_tsv
from evalkit.tsv_rows import IMAGE, INDEX
from evalkit.tsv_sample import RENAMED
from evalkit.types import ImageRef
from evalkit.values import is_valid_id, shown

LARGEST_CELL = 1 << 28
"""Characters of a CSV cell."""
OTHER_COLUMNS = 200
"""Columns of a data set that are kept beside those that the task uses."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        path: of its file, and ``place``, ``line`` or ``row`` with a number, for messages.
        values: by column; None where a cell is empty.
        images: those that are in the row itself, by column.
    """

    path: Path
    place: tuple[str, int]
    values: Mapping[str, Any]
    images: Mapping[str, tuple[ImageRef, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows, and what is known of their columns.

    Attributes:
        name: for messages.
        digest: of the rows' content; empty if it is to be computed from the samples.
        typed: whether values have types; in CSV and TSV files all are texts.
        extra: columns that are no meta data of a sample: the letters, where options are in columns of these names.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    digest: str = ""
    typed: bool = True
    extra: frozenset[str] = frozenset()


def read_table(source: Source, folder: Path, data: Data, used: Sequence[str]) -> Table:
    """The rows of a source.

    Args:
        folder: that names of files are relative to, and cannot leave.
        used: the columns that the task names, for data sets with others that are large.

    Raises:
        UserError: a file is missing or not as its format says; the message has the line.
    """
    if source.rows:
        return _stated_rows(source)
    if source.hub:
        hub = data if isinstance(data, HubData) else HubData(HUB)
        rows = hub.rows(
            source.hub, source.split, source.config, task=source.where, columns=(),
            advice="check its name, config and split, or give --data hub:FOLDER with a local copy",
        )  # fmt: skip
        return _data_set(rows, Path(source.hub) / source.split, used, name=f"{source.hub}, split {source.split}")
    paths = [folder / path_inside(folder, name, "file", source.where) for name in source.files]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{source.where}: there is no file {path}; file names are relative to {folder}.")
    name = ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    if source.format == "parquet":
        digest = hashlib.sha256("".join(of_files(paths)).encode()).hexdigest()
        return _data_set(_parquet(paths, source), paths[0], used, name=name, digest=digest)
    tables = [_file_table(path, source) for path in paths]
    columns = dict.fromkeys(column for table in tables for column in table.columns)
    digest = hashlib.sha256("".join(table.digest for table in tables).encode()).hexdigest()
    rows = [row for table in tables for row in table.rows]
    return Table(name, tuple(columns), rows, digest, tables[0].typed, tables[0].extra)


def _file_table(path: Path, source: Source) -> Table:
    if source.format == "tsv":
        return _tsv(path)
    content = read_bytes(path, source.where)
    digest = hashlib.sha256(content).hexdigest()
    if source.format == "csv":
        columns, rows = _csv(content, path, source.delimiter)
        return Table(path.name, columns, rows, digest, typed=False)
    entries = entries_of(content, path, spelled=True)
    if entries and "evalkit" in entries[0].row:
        entries = entries[1:]
    keys = tuple(dict.fromkeys(key for entry in entries for key in entry.row))
    return Table(path.name, keys, [Row(path, entry.place, entry.row) for entry in entries], digest)


def _stated_rows(source: Source) -> Table:
    """The rows in the description; each has the line where it begins."""
    path, rows = Path(source.where.rpartition(", line ")[0] or source.where), []
    for number, values in enumerate(source.rows):
        where = source.stated.where(source.key, number)
        line = where.rpartition(", line ")[2]
        try:
            plain = {key: plain_value(value) for key, value in values.items()}
        except ValueError as error:
            raise UserError(f"{where}: {source.key} has {error}.") from None
        rows.append(Row(path, ("line", int(line)) if line.isdecimal() else ("row", number + 1), plain))
    content = json.dumps([row.values for row in rows], sort_keys=True)
    columns = dict.fromkeys(key for row in rows for key in row.values)
    return Table(source.key, tuple(columns), rows, hashlib.sha256(content.encode()).hexdigest())


# ---------------------------------------------------------------------------------------------------------- text files


def _csv(content: bytes, path: Path, delimiter: str) -> tuple[tuple[str, ...], list[Row]]:
    """The columns and rows of a CSV file with a header; empty cells are None."""
    try:
        text = content.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: it is not a text in UTF-8 ({error.reason}); convert it.") from None
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    for line, cells in _records(reader, path):
        if not columns:
            columns = _header(cells, path, line)
            continue
        if len(cells) != len(columns):
            raise UserError(
                f"{path}, line {line}: the row has {len(cells)} cells, and the header {len(columns)}; a text with a "
                f"{shown(delimiter)} in it stands in double quotes."
            )
        rows.append(Row(path, ("line", line), dict(zip(columns, (cell or None for cell in cells), strict=True))))
    return columns, rows


def _records(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each record that is not blank."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: it is not valid CSV ({error}).") from None
        if cells:
            yield line, cells


def _header(cells: Sequence[str], path: Path, line: int) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in cells)
    for name in names:
        if not is_valid_id(name):
            raise UserError(f"{path}, line {line}: the column {shown(name)} has a name that is not a short text.")
        if names.count(name) > 1:
            raise UserError(f"{path}, line {line}: two columns are called {shown(name)}; rename one.")
    return names


def _tsv(path: Path) -> Table:
    """A TSV file of VLMEvalKit's; the options in ``A``, ``B``, … are a list in ``options``."""
    file = read_tsv(path)
    lettered = "options" not in file.columns and all(letter in file.columns for letter in OPTIONS[:2])
    extra = frozenset(column for column in file.columns if column in OPTIONS) if lettered else frozenset()
    rows = []
    for row in file.rows:
        values: dict[str, Any] = {**{RENAMED.get(name, name): cell for name, cell in row.items()}, INDEX: row.index}
        if lettered:
            values["options"] = list(row.options)
        rows.append(Row(path, ("line", row.line), values, {IMAGE: row.images} if row.images else {}))
    columns = (*(RENAMED.get(name, name) for name in file.columns), *(("options",) if lettered else ()))
    return Table(path.name, columns, rows, file.digest, typed=False, extra=extra)


# ----------------------------------------------------------------------------------------------------------- data sets


def _parquet(paths: Sequence[Path], source: Source) -> Any:
    try:
        return parquet_rows(paths)
    except Exception as error:  # corrupt files, other columns in the second file: datasets has many exceptions for it
        raise UserError(
            f"{source.where}: {paths[0]} cannot be read as parquet ({first_line(error.__cause__ or error)})."
        ) from error


def _data_set(rows: Any, path: Path, used: Sequence[str], *, name: str, digest: str = "") -> Table:
    """The rows of a data set; images stay in it until they are needed."""
    import datasets

    columns = tuple(str(column) for column in rows.column_names)
    counts: dict[str, list[int | None] | None] = {}
    for column, feature in rows.features.items():
        if _is_image(feature):
            counts[column] = None
        elif _is_image(getattr(feature, "feature", None)):
            counts[column] = _lengths(rows, column)
    plain = [
        column
        for column, feature in rows.features.items()
        if isinstance(feature, datasets.Value) and feature.dtype not in ("binary", "large_binary")
    ]
    kept = dict.fromkeys((*(c for c in used if c in columns and c not in counts), *plain[:OTHER_COLUMNS]))
    there = {column: rows.data.column(column).is_valid().to_pylist() for column in counts}
    found: list[Row] = []
    for index, values in enumerate(rows.select_columns(list(kept))):
        place = ("row", index + 1)
        images: dict[str, tuple[ImageRef, ...]] = {}
        for column, lengths in counts.items():
            if there[column][index]:
                label = f"{path}[{index}].{column}"
                images[column] = (
                    (RowImage(label, rows, index, column),)
                    if lengths is None
                    else tuple(
                        RowImage(f"{label}[{at}]", rows, index, column, place=at) for at in range(lengths[index] or 0)
                    )
                )
        try:
            found.append(Row(path, place, {key: _cell(value) for key, value in values.items()}, images))
        except ValueError as error:
            raise UserError(f"{path}, row {index + 1}: it has {error}.") from None
    return Table(name, columns, found, digest)


def _cell(value: Any) -> Any:
    """A cell as JSON has it; NaN, which pandas writes for a missing number, is None."""
    return None if isinstance(value, float) and math.isnan(value) else plain_value(value)


def _is_image(feature: Any) -> bool:
    """Whether cells are encoded images: by the data set's declaration, or by their form."""
    import datasets

    if isinstance(feature, datasets.Image):
        return True
    if isinstance(feature, datasets.Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


def _lengths(rows: Any, column: str) -> list[int | None]:
    """The number of entries of each cell of a column of lists."""
    import pyarrow.compute

    found: list[int | None] = pyarrow.compute.list_value_length(rows.data.column(column)).to_pylist()
    return found
