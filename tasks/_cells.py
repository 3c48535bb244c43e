"""Images that the hub's data sets hold as texts."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

from evalkit.images import RowImage


@dataclass(frozen=True)
class Base64Image(RowImage):
    """An image file in base64 in a row of a data set, or an image as ``RowImage`` reads it."""

    def source(self) -> io.BytesIO:
        cell = self.rows[self.index][self.column]
        if not isinstance(cell, str):
            return super().source()
        try:
            return io.BytesIO(base64.b64decode(cell, validate=True))
        except binascii.Error as error:
            raise OSError(f"{self.name}: column {self.column!r} is not base64 ({error})") from error
