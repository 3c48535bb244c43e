"""A backend that is opened at its first use: resuming a complete run loads no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any

from evalkit.interfaces import Backend
from evalkit.types import Request, Response

Begin = Callable[[Sequence[Request], Backend], None]


class Lazy(Backend):
    """Opens a backend when it is needed.

    Attributes:
        on_begin: is told of every list of requests before it is handed over, with the backend, which is open by then.
    """

    def __init__(self, name: str, open_: Callable[[], Backend]) -> None:
        self.name = name
        self.on_begin: Begin = _ignore
        self._open = open_
        self._backend: Backend | None = None

    def generate(self, requests: Sequence[Request], stop: Event | None = None) -> Iterator[Response]:
        backend = self.opened()
        self.on_begin(requests, backend)
        return backend.generate(requests, stop)

    def describe(self) -> Mapping[str, Any]:
        return self.opened().describe()

    def opened(self) -> Backend:
        """The backend; opens it first if need be."""
        if self._backend is None:
            self._backend = self._open()
        return self._backend

    def if_open(self, do: Callable[[Backend], None]) -> None:
        """Do something with the backend, where it has been opened."""
        if self._backend is not None:
            do(self._backend)


def _ignore(requests: Sequence[Request], backend: Backend) -> None:
    pass
