"""A backend that is opened at its first use: resuming a complete run loads no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any

from evalkit.interfaces import Backend
from evalkit.types import Request, Response

Begin = Callable[[Sequence[Request], Backend], None]


class LazyBackend(Backend):
    """Opens a backend when it is first needed.

    Attributes:
        on_begin: called with each list of requests, and the open backend, before the backend gets them.
        stop: set when the run is to stop; None before the first requests, and if nothing sets it.
    """

    def __init__(self, name: str, open_: Callable[[], Backend]) -> None:
        self.name = name
        self.on_begin: Begin = _ignore
        self.stop: Event | None = None
        self._open = open_
        self._backend: Backend | None = None

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        self.stop = stop
        backend = self.opened()
        self.on_begin(requests, backend)
        return backend.generate(requests, stop)

    def describe(self) -> Mapping[str, Any]:
        return self.opened().describe()

    def opened(self) -> Backend:
        """The backend; opens it at the first call."""
        if self._backend is None:
            self._backend = self._open()
        return self._backend

    def close(self) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def if_open(self, do: Callable[[Backend], None]) -> None:
        """Call ``do`` with the backend if it is open."""
        if self._backend is not None:
            do(self._backend)


def _ignore(requests: Sequence[Request], backend: Backend) -> None:
    pass
