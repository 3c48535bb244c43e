"""The list of benchmarks: by theme, or those that a search finds."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalkit.interfaces import Task
from evalkit.task_groups import GROUPS, MEANS
from evalkit.themes import PLUGINS, theme_of

if TYPE_CHECKING:
    from rich.console import Console


def about(task: Task) -> str:
    """The first line of the documentation of a task's file."""
    return (sys.modules[type(task).__module__].__doc__ or "").strip().split("\n")[0].rstrip(".")


def matching(tasks: Sequence[Task], words: str) -> list[Task]:
    """The tasks that contain each of ``words`` in their name, theme, documentation, kind or metric, or whose group is
    called so."""
    if words in GROUPS:
        members = {name.partition("/")[0] for name in GROUPS[words]}
        return [task for task in tasks if task.name in members]
    wanted = re.findall(r"[\w+.-]+", words.lower())

    def text(task: Task) -> str:
        kind = "yes/no" if task.kind == "yes_no" else task.kind
        return " ".join((task.name, theme_of(task), about(task), task.kind, kind, task.metric)).lower()

    return [task for task in tasks if wanted and all(word in text(task) for word in wanted)]


def list_tasks(console: Console, found: Sequence[Task], *, groups: bool = True) -> None:
    """Print benchmarks by theme, a line each, and the groups."""
    from rich.table import Table

    themes: dict[str, list[Task]] = {}
    for task in found:
        themes.setdefault(theme_of(task), []).append(task)
    widths = [
        max(len(text) for text in column) for column in (["task", *(t.name for t in found)], [t.metric for t in found])
    ]
    for title in sorted(themes, key=lambda title: (title == PLUGINS, title)):
        console.print(title, style="bold", highlight=False)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=2)
        for width in widths:
            table.add_column(width=width, no_wrap=True)
        table.add_column(overflow="fold")
        for task in themes[title]:
            table.add_row("", task.name, task.metric, sizes_of(task))
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


def sizes_of(task: Task) -> str:
    """The splits that are run by default with their official sizes, then the names of the others."""
    sizes = [
        name if task.splits[name].size is None else f"{name} {task.splits[name].size:,}" for name in task.default_splits
    ]
    others = [name for name in task.splits if name not in task.default_splits]
    return ", ".join(sizes) + (f" + {', '.join(others)}" if others else "")
