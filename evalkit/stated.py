"""Values that a user's file states under keys: read one by one, with messages that name the file, line and key."""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from evalkit.errors import UserError
from evalkit.toml_lines import KeyPath
from evalkit.values import is_valid_id, shown

DEEPEST = 20
"""Levels of lists and tables in a value."""
Place = Callable[[KeyPath], str]
"""Where a key is, for messages: ``mine.toml, line 4``."""


class Stated:
    """A table of a file.

    Args:
        path: of its key in the file; empty for the file itself.
    """

    def __init__(self, values: Mapping[str, Any], place: Place, path: KeyPath = ()) -> None:
        self.values = values
        self.path = path
        self._place = place

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def where(self, *keys: str | int) -> str:
        """The place of a key in the table, or of the table itself."""
        return self._place((*self.path, *keys))

    def name(self, *keys: str | int) -> str:
        """A key as messages call it: ``rows.split``."""
        return ".".join(str(key) for key in (*self.path, *keys))

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raise ``UserError`` for the value of ``key``."""
        raise UserError(f"{self.where(key)}: {self.name(key)} {problem}.")

    def wrong(self, key: str, expected: str) -> NoReturn:
        """Raise ``UserError``: the value of ``key`` is not what is ``expected``."""
        self.refuse(key, f"is {shown(self.values[key])}; expected {expected}")

    def check_keys(self, known: Sequence[str]) -> None:
        """Refuse keys that are not ``known``, with the nearest one."""
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
                inside = f" in {self.name()}" if self.path else ""
                raise UserError(f"{self.where(key)}: unknown key {shown(key)}{inside}; {hint}")

    def table(self, key: str, example: str) -> Stated:
        """The table under ``key``.  Raises ``UserError`` if it is something else; ``example`` shows one."""
        value = self.values[key]
        if not isinstance(value, Mapping):
            self.wrong(key, f"a table, such as {example}")
        return Stated(value, self._place, (*self.path, key))

    def text(self, key: str, expected: str = "a text", default: str | None = None) -> str:
        """The text under ``key``, which is not empty."""
        if key not in self.values and default is not None:
            return default
        value = self.values[key] if key in self.values else self.missing(key, expected)
        if not isinstance(value, str) or not value.strip():
            self.wrong(key, expected)
        return value

    def missing(self, key: str, expected: str) -> NoReturn:
        """Raise ``UserError``: there is no ``key``."""
        inside = f"{self.name()} has" if self.path else "there is"
        raise UserError(f"{self.where()}: {inside} no {key}; expected {expected}.")

    def texts(self, key: str, expected: str = "a text, or a list of texts") -> tuple[str, ...]:
        """The text or the list of texts under ``key``; none if there is no such key."""
        value = self.values.get(key, [])
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(one, str) and one.strip() for one in found):
            self.wrong(key, expected)
        return tuple(found)

    def names(self, key: str, expected: str) -> tuple[str, ...]:
        """As ``texts``, each a short text on one line and different from the others."""
        found = self.texts(key, expected)
        if not all(is_valid_id(one) for one in found) or len(set(found)) < len(found):
            self.wrong(key, expected)
        return found

    def one_of(self, key: str, choices: Sequence[str], default: str) -> str:
        """The word under ``key``, which is among ``choices``."""
        value = self.values.get(key, default)
        if value not in choices:
            self.wrong(key, f"{', '.join(choices[:-1])} or {choices[-1]}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        """Whether ``key`` is true."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self.wrong(key, "true or false")
        return value


def plain_value(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it; dates are texts.  Raises ``ValueError`` for what JSON has not."""
    if depth > DEEPEST:
        raise ValueError("values that are nested too deeply")
    if isinstance(value, Mapping):
        return {str(key): plain_value(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(one, depth + 1) for one in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value}, which is not a number")
    if isinstance(value, int) and abs(value) >= 10**300:
        raise ValueError("a number beyond the range of a float")
    return value
