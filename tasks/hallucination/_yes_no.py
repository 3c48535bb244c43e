"""What yes/no benchmarks share: right answers, and VLMEvalKit's TSV files of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalkit.data import OfficialData, shown, tsv_places
from evalkit.errors import UserError
from evalkit.tasks._files import text_in
from evalkit.tsv import TsvRow
from evalkit.types import ImageRef
from evalkit.yes_no import NO, YES

TAIL = " Please answer yes or no."
"""How VLMEvalKit's and MME's questions end."""


def yes_no_in(entry: Mapping[str, Any], key: str) -> str:
    """The right answer that is ``entry[key]``, ``yes`` or ``no``; files have it in any case."""
    value = text_in(entry, key).strip().lower()
    if value not in (YES, NO):
        raise ValueError(f"{key} is {shown(entry[key])}, neither yes nor no")
    return value


def has_tsv(data: OfficialData, task: str, name: str) -> bool:
    """Whether the root has VLMEvalKit's file ``name`` of the task."""
    return any((data.root / place).exists() for place in tsv_places(task, name))


def tsv_rows(data: OfficialData, task: str, name: str, columns: Sequence[str]) -> Iterator[TsvRow]:
    """The rows of VLMEvalKit's file ``name``.  Raises ``UserError`` if it is missing or lacks a column."""
    yield from data.tsv(*tsv_places(task, name), task=task, columns=columns).rows


def tsv_images(row: TsvRow, data: OfficialData, task: str, name: str) -> tuple[ImageRef, ...]:
    """The image of a row: in its cell, or a file below ``images/NAME``, where VLMEvalKit unpacks images.

    Raises:
        UserError: there is none, and images are required.
    """
    found = row.images_or_files(data.root / "images" / name, task=task) if data.images_required else row.images
    if data.images_required and not found:
        raise UserError(f"{task}: {row.where}: the row {row.index} has no image; download the file again.")
    return found
