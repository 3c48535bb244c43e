"""Keeps Python's garbage collection from visiting many objects in vain."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Do not search for reference cycles in this context; reference counting frees everything else as always.

    Each search visits all objects, and finds nothing while the rows of a table or modules are loaded.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class LoadedModules:
    """Whether imported modules are visited by garbage collection.

    Attributes:
        stay: whether this process ends without destroying them (``evalkit.cli.leaving``).  Where the interpreter
            destroys them, it has to visit them, or extension modules complain of leaks.
    """

    stay = False

    @classmethod
    def imported(cls) -> None:
        """Do not visit what exists now any more, if modules stay: those of torch take half a second each time."""
        if cls.stay:
            gc.freeze()
