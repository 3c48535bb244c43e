"""How many requests are under way: as many as the server makes good use of, and no more.

The limit grows as long as latency holds, which is to say that it grows by less than the number of requests does: then
more are answered a second.  It doubles until it first does not pay, then grows in small steps, each of which is taken
back if it did not pay.  Where the server refuses for being busy (429, 503, …), the limit is halved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

FIRST = 4
LEAST_COUNTED = 8
"""Answers over which a rate is measured, at least."""
PAYS = 1.05
"""A larger limit pays if this times as many are answered a second."""
REST = 3
"""How many rates are measured before the limit is tried larger again."""


class Gate:
    """Says how many requests may be under way.

    Args:
        most: never more than so many.
        clock: gives the time in seconds.

    Attributes:
        limit: how many may be under way now.
        highest: the most that ``limit`` has been while it paid.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.limit = self.highest = min(FIRST, most)
        self._clock = clock
        self._accepted = self.limit  # the limit before the one that is tried
        self._rate = 0.0  # answers a second under it
        self._trying = False
        self._doubling = True
        self._rest = 0
        self._held_until = self._lowered_at = -math.inf
        self._began()

    def _began(self) -> None:
        self._since = self._clock()
        self._warm = self.limit  # these were under way before
        self._count = 0
        self._full = True

    def pause(self) -> float:
        """Seconds for which no request should be begun."""
        return max(0.0, self._held_until - self._clock())

    def idle(self) -> None:
        """There is less to do than might be under way: what is measured now says nothing about the limit."""
        self._full = False

    def answered(self) -> None:
        """A request was answered."""
        if self._warm > 0:
            self._warm -= 1
            if self._warm == 0:
                self._since = self._clock()
            return
        self._count += 1
        if self._count < max(self.limit, LEAST_COUNTED):
            return
        rate = self._count / max(1e-6, self._clock() - self._since)
        if self._full:
            self._measured(rate)
        self._began()

    def _measured(self, rate: float) -> None:
        if self._trying and rate < self._rate * PAYS:
            self.limit, self._trying, self._doubling, self._rest = self._accepted, False, False, REST
            return
        self._rate = rate
        self.highest = max(self.highest, self.limit)
        if not self._trying and self._rest > 0:
            self._rest -= 1
            return
        self._accepted = self.limit
        step = self.limit if self._doubling else max(1, self.limit // 4)
        self.limit = min(self.most, self.limit + step)
        self._trying = self.limit > self._accepted

    def refused(self, began: float, pause: float = 0.0) -> None:
        """A request that was begun at this time was refused; ``pause`` is for how many seconds none should be begun.

        What was under way when the limit was last lowered says nothing about the new one.
        """
        now = self._clock()
        self._held_until = max(self._held_until, now + pause)
        if began < self._lowered_at:
            return
        self.limit = max(1, self.limit // 2)
        self._accepted, self._trying, self._doubling, self._rest = self.limit, False, False, REST
        self._lowered_at = now
        self._began()
