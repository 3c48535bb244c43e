"""An option of ``evalkit run``, and how a settings class states one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from evalkit.errors import UserError
from evalkit.ranges import Range, share_of

Panel = Literal[
    "Common", "Model", "Data", "Prompting", "Video", "Decoding", "Speed", "Server", "Judge", "Cluster", "Output"
]  # fmt: skip
Kind = Literal["string", "list", "texts", "integer", "number", "flag", "auto", "share"]
LARGEST_INTEGER = 2**63 - 1
"""What torch, servers and tables hold; Python's own integers, and those of settings files, have no limit."""


@dataclass(frozen=True)
class Option:
    """An option of ``evalkit run``, and the key of the same name in a settings file.

    Attributes:
        kind: ``list`` is split at commas, ``texts`` is not; ``auto`` is an integer or ``auto`` (None), ``share`` an
            integer or a percentage such as ``5%``.
        default: the value if nothing is given.
        shown_default: what help prints instead of ``default``.
        range: the numbers allowed; None if the option is not a number, or not limited.
        in_file: whether a project's settings file may set it.
    """

    name: str
    kind: Kind
    default: Any
    panel: Panel
    help: str
    short: str | None
    shown_default: str | None
    choices: tuple[str, ...]
    range: Range | None
    metavar: str | None
    environment: str | None
    in_file: bool

    @property
    def flag(self) -> str:
        """The option on the command line: ``--batch-size``."""
        return f"--{self.name.replace('_', '-')}"

    def advice(self, value: Any) -> str | None:
        """The correction for a value of the wrong type or out of range: ``give at least 1``; None for a good one.

        ``None`` (not given) and options that are not numbers are not checked.
        """
        if value is None or self.range is None:
            return None
        if self.kind == "share" and isinstance(value, str):
            return None if share_of(value) is not None else f"give {self.range}, or a percentage such as 5%"
        whole = self.kind in ("integer", "auto", "share")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            return f"give {'an integer' if whole else 'a number'}, {self.range}"
        if abs(value) > (LARGEST_INTEGER if whole else sys.float_info.max) or value != value:
            return f"give a number of 64 bits, {self.range}" if whole else f"give a finite number, {self.range}"
        return None if value in self.range else f"give {self.range}"


def option(
    kind: Kind,
    default: Any,
    panel: Panel,
    help: str,
    *,
    short: str | None = None,
    shown_default: str | None = None,
    choices: tuple[str, ...] = (),
    range: Range | None = None,
    metavar: str | None = None,
    environment: str | None = None,
    in_file: bool = True,
) -> Any:
    """A dataclass field that carries the arguments of its ``Option``."""
    arguments = {
        "kind": kind, "panel": panel, "help": help, "short": short, "shown_default": shown_default,
        "choices": choices, "range": range, "metavar": metavar, "environment": environment, "in_file": in_file,
    }  # fmt: skip
    return field(default=default, metadata=arguments)


def count_or_share(value: Any, named: str, option: Option) -> int | str:
    """A count or a percentage; ``named`` is how messages refer to the setting.

    Raises:
        UserError: it is neither.
    """
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    if advice := option.advice(value):
        raise UserError(f"{named} {value}: {advice}.")
    return value  # type: ignore[no-any-return]
