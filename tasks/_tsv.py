"""VLMEvalKit's TSV files of benchmarks that also have official files: is there one, and its rows' images."""

from __future__ import annotations

from evalkit.data import OfficialData, tsv_places
from evalkit.errors import UserError
from evalkit.tsv import TsvRow
from evalkit.types import ImageRef


def has_tsv(data: OfficialData, task: str, name: str) -> bool:
    """Whether the root has VLMEvalKit's file ``name`` of the task."""
    return any((data.root / place).exists() for place in tsv_places(task, name))


def row_images(row: TsvRow, data: OfficialData, task: str, name: str) -> tuple[ImageRef, ...]:
    """The image of a row: in its cell, or a file below ``images/NAME``, where VLMEvalKit unpacks images.

    None if images are not required and the cell is empty.

    Raises:
        UserError: there is none, and images are required.
    """
    found = row.images_or_files(data.root / "images" / name, task=task) if data.images_required else row.images
    if data.images_required and not found:
        raise UserError(f"{task}: {row.where}: the row {row.index} has no image; download the file again.")
    return found


def image_cluster(row: TsvRow) -> str:
    """The cluster of a row by its image: the index of the first row that has it, else its own."""
    return row.images[0].index if row.images else row.index
