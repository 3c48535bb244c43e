"""What yes/no benchmarks share: their right answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.tasks._files import text_in
from evalkit.values import shown
from evalkit.yes_no import NO, YES

TAIL = " Please answer yes or no."
"""How VLMEvalKit's and MME's questions end."""


def yes_no_in(entry: Mapping[str, Any], key: str) -> str:
    """The right answer that is ``entry[key]``, ``yes`` or ``no``; files have it in any case."""
    value = text_in(entry, key).strip().lower()
    if value not in (YES, NO):
        raise ValueError(f"{key} is {shown(entry[key])}, neither yes nor no")
    return value
