"""Formatting of names, sizes, dtypes and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers

SHOWN = 5
"""Number of names shown of a list."""


def first_line(error: BaseException) -> str:
    """The error's message in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def few(names: Sequence[str]) -> str:
    """The first names, and an ellipsis if there are more."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def shape(sizes: Sequence[int]) -> str:
    """``128 × 320``"""
    return " × ".join(map(str, sizes)) or "a single number"


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16``"""
    return str(dtype).removeprefix("torch.")


def gigabytes(size: int) -> str:
    """Bytes as ``15.2 GB``; small ones as ``2.9 MB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' messages and progress bars."""
    logging: Any = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
