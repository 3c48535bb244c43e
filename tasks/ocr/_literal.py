"""What OCR benchmarks share: lists written as Python literals."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from evalkit.tasks._files import text_in
from evalkit.values import shown


def literal_in(entry: Mapping[str, Any], key: str) -> Any:
    """The Python literal that the text ``entry[key]`` is.  Raises ``ValueError`` if it is none."""
    text = text_in(entry, key)
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"{key} is {shown(text)}, not a list") from None
