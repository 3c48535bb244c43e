"""Waiting before a request is sent again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from threading import Event
from typing import Any, TypeVar

from .concurrency import ConcurrencyLimiter

POLL_SECONDS = 0.2
"""Seconds between checks of whether the run is to stop."""


_Found = TypeVar("_Found")


async def unless(stop: Event | None, work: Coroutine[Any, Any, _Found]) -> _Found | None:
    """The result of a coroutine; None if ``stop`` is set before it has one."""
    task = asyncio.create_task(work)
    try:
        while not task.done() and not (stop is not None and stop.is_set()):
            await asyncio.wait({task}, timeout=POLL_SECONDS)
        return await task if task.done() else None
    finally:
        task.cancel()


class Stopping(Exception):
    """The run is to stop, so the request is given up."""


class Waits:
    """Waits of the requests of one client.

    Args:
        counts: counts answers, under ``answered``.
        stop: once set, waiting ends.
    """

    def __init__(self, limiter: ConcurrencyLimiter, counts: Counter[str], stop: Event | None) -> None:
        self._limiter = limiter
        self._counts = counts
        self._stop = stop
        self._replied = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether the run is to stop."""
        return self._stop is not None and self._stop.is_set()

    def wake(self) -> None:
        """Let those who wait look again, since the server has replied to a request."""
        self._replied.set()
        self._replied = asyncio.Event()

    async def turn(self) -> None:
        """Wait until another request may be in flight.  Raises ``Stopping`` if the run is to stop."""
        while not self._limiter.may_resend:
            await self._look_again(self._limiter.seconds_paused() or POLL_SECONDS)

    async def sleep(self, seconds: float, *, until_answer: bool = False) -> None:
        """Wait, with ``until_answer`` at most until the server has answered another request.

        Raises:
            Stopping: the run is to stop.
        """
        until, answered = time.monotonic() + seconds, self._counts["answered"]
        while (left := until - time.monotonic()) > 0 and not (until_answer and self._counts["answered"] > answered):
            await self._look_again(left)
        if self.stopping:
            raise Stopping

    async def _look_again(self, seconds: float) -> None:
        """Wait for a reply, and no longer than until it is to be seen whether the run is to stop."""
        if self.stopping:
            raise Stopping
        try:
            async with asyncio.timeout(min(seconds, POLL_SECONDS)):
                await self._replied.wait()
        except TimeoutError:
            pass
