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
from evalkit.task_suites import suite_tasks


def parse_tasks(names: Iterable[str], splits: Sequence[str] = (), kind: str | None = None) -> list[tuple[Task, str]]:
    """The (task, split) pairs that names mean: ``refcoco`` is its default splits, ``refcoco/testA`` one split.

    ``splits`` replaces the default splits of bare names.

    A group's name means its members (``evalkit.task_groups``).  A name that ends in ``.toml``, ``.jsonl``, ``.json`` or
    ``.tsv`` is a custom task file of the given ``kind`` (``evalkit.task_files``), and the name of a folder of TOML
    files, or of a group in it, means these (``evalkit.task_suites``).

    Raises:
        UserError: an unknown task or split, or a file that is not as expected.
    """
    found: list[tuple[Task, str]] = []
    for name in expand(names):
        for task, wanted in _meant(name, splits, kind):
            _check_name(task, found)
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


def _meant(name: str, splits: Sequence[str], kind: str | None) -> list[tuple[Task, Sequence[str]]]:
    """The tasks that one name means, each with its splits."""
    if is_task_file(name):
        task: Task = read_task_file(Path(name), kind)
        return [(task, task.default_splits)]
    suite = suite_tasks(name, kind)
    if suite is not None:
        return [(one, one.default_splits) for one in suite]
    return [_named(name, splits)]


def _check_name(task: Task, found: Sequence[tuple[Task, str]]) -> None:
    """Refuse a second file of a name."""
    if not isinstance(task, FileTask):
        return
    files = [other for other, _ in found if isinstance(other, FileTask)]
    for other in files:
        if other.name == task.name and other.path != task.path:
            raise UserError(f"--tasks: {other.path} and {task.path} would both be called {task.name}; rename one.")
