"""Values in the cells of a table, as custom task files have them."""

from __future__ import annotations

import json
from typing import Any

from evalkit.jsonl import Number


def parsed(text: str) -> Any:
    """The JSON value in a cell; numbers between commas are a list; the text if it is neither."""
    for candidate in (text, f"[{text}]"):
        try:
            return json.loads(candidate, parse_constant=_no_number)
        except (ValueError, RecursionError):
            continue
    return text


def _no_number(name: str) -> Any:
    raise ValueError(name)


def texts_of(value: Any, split: str) -> Any:
    """A list of texts: the entries of a list, or the pieces of a text."""
    if isinstance(value, str) and split:
        return [piece.strip() for piece in value.split(split) if piece.strip()]
    values = value if isinstance(value, list) else [value]
    return [one if isinstance(one, dict | list | bool) or one is None else spelled(one) for one in values]


def spelled(value: Any) -> str:
    """A value as a text; a number of a JSON file as it is spelled there."""
    return value.literal if isinstance(value, Number) else str(value)


def plain(value: Any) -> Any:
    return float(value) if isinstance(value, Number) else value


def meta_value(value: Any) -> Any:
    """A value as ``meta`` has it."""
    if isinstance(value, list):
        return [meta_value(one) for one in value]
    if isinstance(value, dict):
        return {key: meta_value(one) for key, one in value.items()}
    return plain(value)


def corners(value: Any) -> Any:
    """Two corners of a box given by a corner, width and height; the value itself if it is no such box."""
    if isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float, Number) for v in value):
        x, y, width, height = value
        return [float(x), float(y), float(x + width), float(y + height)]
    return value
