"""The list of benchmarks, remembered until a file of evalkit or of a plugin changes.

Finding it imports every task file, which takes most of a second; a command that only lists them does not need to.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evalkit.software import state_of_software
from evalkit.user_cache import Remembered

if TYPE_CHECKING:
    from evalkit.interfaces import Task

PLUGINS = "Benchmarks of installed plugins"
"""The theme of benchmarks that are not evalkit's own."""


@dataclass(frozen=True)
class Listed:
    """What the list says about a benchmark.

    Attributes:
        name: such as ``vqav2``.
        theme: the title of its folder, such as ``Multiple-choice benchmarks``.
        about: the first line of the documentation of its file.
        kind: such as ``multiple_choice``.
        metric: the default metric's name.
        sizes: its splits: those that are run by default with their official sizes, then the names of the others.
    """

    name: str
    theme: str
    about: str
    kind: str
    metric: str
    sizes: str


def listing() -> list[Listed]:
    """Every benchmark, sorted by name.

    Raises:
        UserError: a task's file cannot be loaded.
    """
    remembered = Remembered("tasks")
    key = state_of_software()
    rows = _read(remembered.get(key))
    if rows is None:
        from evalkit import registry

        rows = [listed(task) for task in registry.tasks.all()]
        remembered.put(key, [asdict(row) for row in rows])
    return rows


def _read(value: Any) -> list[Listed] | None:
    try:
        rows = [Listed(**row) for row in value]
    except TypeError:
        return None
    return rows if all(isinstance(text, str) for row in rows for text in asdict(row).values()) else None


def listed(task: Task) -> Listed:
    """What the list says about a task."""
    return Listed(task.name, theme_of(task), _about(task), task.kind, task.metric, _sizes(task))


def theme_of(task: Task) -> str:
    """The title of the folder that a task is in."""
    package = type(task).__module__.rpartition(".")[0]
    if not package.startswith("evalkit.tasks."):
        return PLUGINS
    return (sys.modules[package].__doc__ or package).split("\n")[0].rstrip(".").partition(":")[0]


def _about(task: Task) -> str:
    return (sys.modules[type(task).__module__].__doc__ or "").strip().split("\n")[0].rstrip(".")


def _sizes(task: Task) -> str:
    def size(name: str) -> str:
        number = task.splits[name].size
        return name if number is None else f"{name} {number:,}"

    others = [name for name in task.splits if name not in task.default_splits]
    return ", ".join(map(size, task.default_splits)) + (f" + {', '.join(others)}" if others else "")
