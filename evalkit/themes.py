"""Themes of benchmarks: the folders that their files are in."""

from __future__ import annotations

import importlib

from evalkit.interfaces import Task

BUILT_IN = "evalkit.tasks."
PLUGINS = "Benchmarks of installed plugins"


def theme_of(task: Task) -> str:
    """The title of the folder that a task is in, such as ``Multiple-choice benchmarks``."""
    package = type(task).__module__.rpartition(".")[0]
    if not package.startswith(BUILT_IN):
        return PLUGINS
    return (importlib.import_module(package).__doc__ or package).split("\n")[0].rstrip(".").partition(":")[0]
