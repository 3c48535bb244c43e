"""Pauses Python's garbage collection while many objects are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Look for no cycles among objects until the end; what is in no cycle is freed as always.

    Each pass over all objects takes longer the more there are, and finds nothing while a table is read.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
