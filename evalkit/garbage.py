"""Pauses Python's garbage collection while many objects are made."""

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
