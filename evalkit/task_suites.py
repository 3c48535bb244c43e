"""Suites: a folder of described tasks, ``--tasks ./mine/``, and its groups, ``--tasks ./mine/reading``.

Every ``.toml`` file in the folder is a task, in the order of names; ``groups`` in it says which groups it is in.
"""

from __future__ import annotations

from evalkit import registry
from evalkit.described_task import DescribedTask
from evalkit.errors import UserError
from evalkit.paths import user_path
from evalkit.toml_task import read_toml_task

SETTINGS = ("evalkit.toml", "pyproject.toml")
"""Files that may lie in the folder and are no tasks."""
EXPLICIT = (".", "/", "~")
"""How a name begins that is a path, whatever benchmarks there are."""


def suite_tasks(name: str, kind: str | None = None) -> list[DescribedTask] | None:
    """The tasks that the name of a folder, or of a group in it, means; None if it is no such name.

    The name of a benchmark means the benchmark, unless it is written as a path: ``./pope``, ``pope/``.

    Raises:
        UserError: the folder has no task, or no such group; or a file in it does not describe a task.
    """
    explicit = name.startswith(EXPLICIT) or name.endswith("/")
    path = user_path(name, "--tasks")
    folder = path if path.is_dir() else path.parent if "/" in name.rstrip("/") else None
    if folder is None or not folder.is_dir() or (not explicit and _is_benchmark(name)):
        return None
    files = sorted(file for file in folder.glob("*.toml") if file.name not in SETTINGS and file.is_file())
    if not files:
        if not explicit:
            return None
        raise UserError(f"--tasks {name}: there is no .toml file in {folder}, each of which would be a task.")
    tasks = [read_toml_task(file, kind) for file in files]
    if folder is path:
        return tasks
    found = [task for task in tasks if path.name == task.name] or [task for task in tasks if path.name in task.groups]
    if not found:
        groups = dict.fromkeys(group for task in tasks for group in task.groups)
        has = f"its groups are {', '.join(groups)}" if groups else "no file in it has groups"
        raise UserError(
            f"--tasks {name}: {folder} has neither a task nor a group called {path.name}; "
            f"its tasks are {', '.join(task.name for task in tasks)}, and {has}."
        )
    return found


def _is_benchmark(name: str) -> bool:
    try:
        registry.tasks.get(name.partition("/")[0])
    except UserError:
        return False
    return True
