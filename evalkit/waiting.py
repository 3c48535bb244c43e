"""Work that will be needed, done where the process would only wait for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_later: list[Callable[[], object]] = []


@contextmanager
def while_waiting(work: Callable[[], object]) -> Iterator[None]:
    """Offer ``work`` to what waits in this context; it is done at most once, in the thread that waits."""
    _later.append(work)
    try:
        yield
    finally:
        if work in _later:
            _later.remove(work)


def work_meanwhile() -> None:
    """Do what is offered; called before waiting for another process."""
    while _later:
        _later.pop(0)()
