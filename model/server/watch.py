"""What the client asks of whoever watches a server, and of the queue that it takes requests from."""

from __future__ import annotations

from threading import Event
from typing import Protocol, runtime_checkable

from evalkit.types import Request


@runtime_checkable
class Waiting(Protocol):
    """Requests that wait to be sent."""

    def __len__(self) -> int: ...

    def popleft(self) -> Request: ...


class Watched(Protocol):
    """A server that is restarted when it dies."""

    @property
    def restarts(self) -> int | None:
        """How often it was restarted; None if that is not known."""
        ...

    async def available(self, stop: Event | None) -> bool:
        """Wait until it is up, or ``stop`` is set; returns whether that had to be waited for.

        Raises:
            Exception: it cannot be restarted.
        """
        ...

    def unresponsive(self, seconds: float) -> bool:
        """Restart it, since it has not answered for so long; returns whether that is possible."""
        ...


class Unwatched:
    """A server that somebody else looks after."""

    restarts = None

    async def available(self, stop: Event | None) -> bool:
        """Nothing is known about it."""
        return False

    def unresponsive(self, seconds: float) -> bool:
        """It cannot be restarted from here."""
        return False
