"""A backend that is opened when it is first asked something: a run that is whole needs no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any

from evalkit.errors import UserError
from evalkit.interfaces import Backend, Embeds
from evalkit.types import Request, Response

Begin = Callable[[Sequence[Request], Backend], None]


class Lazy:
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
        backend = self._opened()
        self.on_begin(requests, backend)
        return backend.generate(requests, stop)

    def describe(self) -> Mapping[str, Any]:
        return self._opened().describe()

    def embedder(self) -> Embeds:
        """The backend, if it can compare images."""
        backend = self._opened()
        if not isinstance(backend, Embeds):
            raise UserError(f"--shots-by similar: the backend {self.name} cannot compare images; use random or fixed.")
        return backend

    def if_open(self, do: Callable[[Backend], None]) -> None:
        """Do something with the backend, where it has been opened."""
        if self._backend is not None:
            do(self._backend)

    def _opened(self) -> Backend:
        if self._backend is None:
            self._backend = self._open()
        return self._backend


def _ignore(requests: Sequence[Request], backend: Backend) -> None:
    pass
