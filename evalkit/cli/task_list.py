"""The list of benchmarks: by theme, or those that a search finds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.console import new_console
from evalkit.task_groups import GROUPS, MEANS
from evalkit.task_listing import PLUGINS, Listed, listing

if TYPE_CHECKING:
    from rich.console import Console


def list_without_options(args: Sequence[str]) -> bool:
    """Print the list, or what a search finds, if that is all that a command line asks for.

    Such a command line needs no parser, and typer's takes a quarter of a second.

    Args:
        args: the arguments of ``evalkit``.

    Returns:
        Whether it was all: false if there is an option, or a task is to be shown in detail.
    """
    command, words = args[:1], args[1:]
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    if list(command) != ["tasks"] or completing or any(not word[:1].isalnum() for word in words):
        return False
    path = " ".join(words)
    if "/" in path or (path and Path(path).exists()):  # a file or folder of tasks
        return False
    rows = listing()
    if not words:
        list_tasks(new_console(), rows)
        return True
    found = search(rows, " ".join(words))
    if found:
        list_tasks(new_console(), found, groups=False)
    return bool(found)


def search(rows: Sequence[Listed], words: str) -> list[Listed]:
    """The tasks that contain each of ``words`` in their name, theme, documentation, kind or metric, or whose group is
    called so; none if a task is called so, which is then meant."""
    wanted = re.findall(r"[\w+.-]+", words.lower())
    if any(row.name == words.partition("/")[0] for row in rows):
        return []
    if words in GROUPS:
        members = {name.partition("/")[0] for name in GROUPS[words]}
        return [row for row in rows if row.name in members]

    def text(row: Listed) -> str:
        kind = "yes/no" if row.kind == "yes_no" else row.kind
        return " ".join((row.name, row.theme, row.about, row.kind, kind, row.metric)).lower()

    return [row for row in rows if wanted and all(word in text(row) for word in wanted)]


def list_tasks(console: Console, found: Sequence[Listed], *, groups: bool = True) -> None:
    """Print benchmarks by theme, a line each, and the groups."""
    from rich.table import Table

    themes: dict[str, list[Listed]] = {}
    for row in found:
        themes.setdefault(row.theme, []).append(row)
    widths = [
        max(len(text) for text in column)
        for column in (["task", *(row.name for row in found)], [row.metric for row in found])
    ]
    for title in sorted(themes, key=lambda title: (title == PLUGINS, title)):
        console.print(title, style="bold", highlight=False)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=2)
        for width in widths:
            table.add_column(width=width, no_wrap=True)
        table.add_column(overflow="fold")
        for row in themes[title]:
            table.add_row("", row.name, row.metric, row.sizes)
        console.print(table, highlight=False)
    console.print()
    if groups:
        console.print("Groups", style="bold")
        for name, members in GROUPS.items():
            console.print(f"  {name} = {', '.join(shortened(name, members))}", highlight=False, soft_wrap=True)
        console.print()
    console.print("Task, metric, splits that are run by default (official size) + others.", style="dim")
    console.print("'evalkit tasks NAME' shows one in detail, 'evalkit tasks WORDS' searches.", style="dim")


def shortened(group: str, members: Sequence[str]) -> list[str]:
    """The members of a group, with ``MEANS`` in place of theirs, such as ``refcoco-all`` for its eight splits."""
    found = list(members)
    for name, inner in MEANS.items():
        place = found.index(inner[0]) if inner[0] in found else -1
        if name != group and place >= 0 and tuple(found[place : place + len(inner)]) == tuple(inner):
            found[place : place + len(inner)] = [name]
    return found
