"""The rows of an Excel workbook's first sheet, within bounds: a small file can state a table of any size."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from evalkit.errors import UserError
from evalkit.installation import install_command

MOST_BYTES = 512 << 20
"""Of the unpacked parts together."""
MOST_CELLS = 20_000_000
"""Of the sheet, empty ones included."""


def rows_of_workbook(content: bytes, path: Path) -> list[tuple[Any, ...]]:
    """The cells of each row; None for an empty one.

    Raises:
        UserError: the file is damaged or too large, or openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise UserError(
            f"{path}: Excel files are read with openpyxl; install it with: {install_command('xlsx')}; "
            "or save the file as .csv."
        ) from error
    try:
        unpacked = sum(part.file_size for part in zipfile.ZipFile(io.BytesIO(content)).infolist())
        if unpacked > MOST_BYTES:
            raise UserError(f"{path}: its parts have {unpacked:,} bytes; workbooks of at most {MOST_BYTES:,} are read.")
        sheet = load_workbook(io.BytesIO(content), read_only=True, data_only=True).worksheets[0]
        rows: list[tuple[Any, ...]] = []
        cells = 0
        for row in sheet.iter_rows(values_only=True):
            cells += len(row) + 1
            if cells > MOST_CELLS:
                raise UserError(f"{path}: its sheet has more than {MOST_CELLS:,} cells, the empty ones included.")
            rows.append(row)
    except UserError:
        raise
    except Exception as error:  # openpyxl has no common exception for corrupt files
        raise UserError(f"{path}: the Excel file cannot be read ({str(error)[:300]}); it may be truncated.") from error
    return rows
