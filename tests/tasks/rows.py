"""Small data sets in the formats that people have: parquet files of a mirror of the hub, TSV files of VLMEvalKit."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image


def png(color: int, size: tuple[int, int] = (20, 10)) -> bytes:
    """A grey image file."""
    buffer = io.BytesIO()
    Image.new("L", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(color: int) -> str:
    """A grey image as VLMEvalKit's files have it."""
    return base64.b64encode(png(color)).decode()


def mirror(root: Path, repo: str, split: str, columns: Mapping[str, Sequence[Any]], config: str = "data") -> str:
    """Write a split's parquet file; ``columns`` without ``image``, whose colors are the rows' numbers.

    Returns:
        The value for ``--data``.
    """
    count = len(next(iter(columns.values())))
    table = datasets.Dataset.from_dict({**columns, "image": [{"bytes": png(n), "path": None} for n in range(count)]})
    folder = root / repo / config
    folder.mkdir(parents=True)
    table.cast_column("image", datasets.Image()).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return f"hub:{root}"


def write_tsv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as VLMEvalKit's files are."""
    import pandas as pd

    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
