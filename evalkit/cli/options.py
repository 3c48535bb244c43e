"""What several verbs share: help in panels, ``--format`` and ``--out``, completion of task names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from evalkit.errors import UserError
from evalkit.settings import split_list

# How typer writes values and defaults → how they are shown.
TIDIER: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"<list\[(\w+)\]>|<(\w+)(?: range)?>", lambda m: (m[1] or m[2]).upper().replace("STR", "TEXT")),
    (r"; x>=\d+(?:\.\d+)?\]$|  \[x>=\d+(?:\.\d+)?\]$", lambda m: "]" if m[0].startswith(";") else ""),
    (r"\[default: \((.*)\)\]", r"[default: \1]"),
)


def _tidy(text: str) -> str:
    for pattern, replacement in TIDIER:
        text = re.sub(pattern, replacement, text)
    return text


class PanelCommand(TyperCommand):
    """A command whose help lists its options by panel (``rich_help_panel``), in plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each panel of options in the order in which panels first occur."""
        panels: dict[str, list[tuple[str, ...]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if argument else "Options")
                panels.setdefault(panel, []).append(tuple(map(_tidy, record)))
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


def choose_formats(
    given: Sequence[str] | None, known: Sequence[str], out: Path | None, default: Sequence[str]
) -> list[str]:
    """The formats named by ``--format``; else ``table``, or ``default`` when ``--out`` is given.

    Raises:
        UserError: an unknown format, or ``table`` together with ``--out``.
    """
    names = list(split_list(given)) or (["table"] if out is None else list(default))
    for name in names:
        if name not in known:
            raise UserError(f"--format {name}: unknown; use one of {', '.join(known)}.")
    files = [name for name in known if name != "table"]
    if out is not None and "table" in names:
        raise UserError(f"--format table is for the terminal; drop --out, or choose from {', '.join(files)}.")
    return names


def complete_task(incomplete: str) -> list[str]:
    """Shell completion for task names and their splits, also behind a comma."""
    from evalkit import registry

    before, comma, last = incomplete.rpartition(",")
    names = [n for t in registry.tasks.all() for n in (t.name, *(f"{t.name}/{s}" for s in t.splits))]
    return [before + comma + n for n in names if n.startswith(last) and ("/" in last or "/" not in n)]
