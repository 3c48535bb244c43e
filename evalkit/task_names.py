"""What ``--tasks`` names: tasks, splits, groups, custom task files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from evalkit import registry
from evalkit.errors import UserError
from evalkit.file_task import FileTask
from evalkit.interfaces import Task
from evalkit.task_files import is_task_file, read_task_file
from evalkit.task_groups import expand


def parse_tasks(names: Iterable[str], splits: Sequence[str] = (), kind: str | None = None) -> list[tuple[Task, str]]:
    """The (task, split) pairs that names mean: ``refcoco`` is its default splits, ``refcoco/testA`` one split.

    ``splits`` replaces the default splits of bare names.

    A group's name means its members (``evalkit.task_groups``).  A name that ends in ``.jsonl`` or ``.json`` is
    a custom task file of the given ``kind`` (``evalkit.task_files``).

    Raises:
        UserError: an unknown task or split, or a file that is not as expected.
    """
    found: list[tuple[Task, str]] = []
    for name in expand(names):
        task, wanted = _custom(name, kind, found) if is_task_file(name) else _named(name, splits)
        for split in wanted:
            if not any(t.name == task.name and s == split for t, s in found):
                found.append((task, split))
    if not found:
        raise UserError(
            "no task was named: give --tasks, for example --tasks refcoco,vqav2 ('evalkit tasks' lists them)."
        )
    if kind is not None and not any(isinstance(task, FileTask) for task, _ in found):
        raise UserError(f"--kind {kind}: this describes a custom task file, and --tasks names none; leave it out.")
    return found


def _named(name: str, splits: Sequence[str]) -> tuple[Task, Sequence[str]]:
    bare, slash, one = name.partition("/")
    task = registry.tasks.get(bare)
    wanted = [one] if slash else list(splits or task.default_splits)
    for split in wanted:
        if split not in task.splits:
            raise UserError(f"task {task.name} has no split {split!r}: there are {', '.join(task.splits)}.")
    return task, wanted


def _custom(name: str, kind: str | None, found: Sequence[tuple[Task, str]]) -> tuple[Task, Sequence[str]]:
    task = read_task_file(Path(name), kind)
    for other, _ in found:
        if isinstance(other, FileTask) and other.name == task.name and other.path != task.path:
            raise UserError(f"--tasks: {other.path} and {task.path} would both be called {task.name}; rename one.")
    return task, task.default_splits
