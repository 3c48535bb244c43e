"""Images in cells of the hub's data sets that are not one encoded image: lists of images, and images in base64."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from evalkit.images import EncodedImage


@dataclass(frozen=True)
class CellImage(EncodedImage):
    """An image in a cell: one of a list, or an image file in base64.

    Attributes:
        name: the row's place.
        place: in the list, from 0.
    """

    name: str
    rows: Any = field(repr=False, compare=False)
    index: int
    column: str = "image"
    place: int = 0
    upright: bool = True

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process: rows as references to their files, or else only this cell."""
        state = dict(self.__dict__)
        if not getattr(self.rows, "cache_files", None):
            state["rows"] = {self.index: {self.column: self.rows[self.index][self.column]}}
        return state

    def source(self) -> io.BytesIO:
        cell = self.rows[self.index][self.column]
        if isinstance(cell, list):
            cell = cell[self.place] if self.place < len(cell) else None
        if isinstance(cell, str):
            try:
                return io.BytesIO(base64.b64decode(cell, validate=True))
            except binascii.Error as error:
                raise OSError(f"{self.name}: column {self.column!r} is not base64 ({error})") from error
        content = cell.get("bytes") if isinstance(cell, Mapping) else None
        if content is None:
            raise OSError(f"{self.name} has no image {self.place + 1} in column {self.column!r}")
        return io.BytesIO(content)

    @cached_property
    def key(self) -> str:
        """A digest of its content, since each question's row repeats its image; its name if it cannot be read."""
        try:
            return f"content:{self.digest()}"
        except (OSError, ValueError):
            return f"{self.name}[{self.place}]"


def encoded_lists(rows: Any, column: str = "image") -> Any:
    """``rows`` with the lists of images in ``column`` still encoded."""
    import datasets

    feature = rows.features[column]
    if isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.Image):
        return rows.cast_column(column, datasets.List(datasets.Image(decode=False)))
    return rows
