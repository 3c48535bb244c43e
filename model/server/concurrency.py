"""Adaptive limit on concurrent requests: it rises as long as the server's throughput does.

The limit grows while a higher one answers more requests per second.  It doubles until it first does not pay, and then
grows in small steps, each of which is undone if it does not pay.  When the server refuses requests because it is
overloaded (429, 503, …), the limit is halved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

FIRST_LIMIT = 4
MIN_ANSWERS = 8
"""The fewest answers over which a rate is measured."""
MIN_GAIN = 1.05
"""A higher limit pays if it multiplies the rate by at least this."""
RATES_BETWEEN_TRIALS = 3
"""Rates measured before a higher limit is tried again."""


class ConcurrencyLimiter:
    """The number of requests that may be in flight.

    Args:
        maximum: the upper bound of the limit.
        clock: returns the time in seconds.

    Attributes:
        limit: how many requests may be in flight now.
        highest: the highest limit that paid.
    """

    def __init__(self, maximum: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.maximum = maximum
        self.limit = self.highest = min(FIRST_LIMIT, maximum)
        self._clock = clock
        self._accepted = self.limit  # the limit before the one on trial
        self._rate = 0.0  # answers per second under the accepted limit
        self._on_trial = False
        self._doubling = True
        self._rates_until_trial = 0
        self._paused_until = self._lowered_at = -math.inf
        self._start_measuring()

    def _start_measuring(self) -> None:
        self._since = self._clock()
        self._in_flight_before = self.limit
        self._count = 0
        self._saturated = True

    def seconds_paused(self) -> float:
        """Seconds for which no request should be sent."""
        return max(0.0, self._paused_until - self._clock())

    def record_idle(self) -> None:
        """Fewer requests are in flight than the limit allows, so the current rate says nothing about it."""
        self._saturated = False

    def record_answer(self) -> None:
        """A request was answered."""
        if self._in_flight_before > 0:
            self._in_flight_before -= 1
            if self._in_flight_before == 0:
                self._since = self._clock()
            return
        self._count += 1
        if self._count < max(self.limit, MIN_ANSWERS):
            return
        rate = self._count / max(1e-6, self._clock() - self._since)
        if self._saturated:
            self._adjust(rate)
        self._start_measuring()

    def _adjust(self, rate: float) -> None:
        if self._on_trial and rate < self._rate * MIN_GAIN:
            self.limit, self._on_trial, self._doubling = self._accepted, False, False
            self._rates_until_trial = RATES_BETWEEN_TRIALS
            return
        self._rate = rate
        self.highest = max(self.highest, self.limit)
        if not self._on_trial and self._rates_until_trial > 0:
            self._rates_until_trial -= 1
            return
        self._accepted = self.limit
        step = self.limit if self._doubling else max(1, self.limit // 4)
        self.limit = min(self.maximum, self.limit + step)
        self._on_trial = self.limit > self._accepted

    def record_overload(self, sent: float, pause: float = 0.0) -> None:
        """The server refused a request because it is overloaded.

        Args:
            sent: when the request was sent.  Requests sent before the limit was last lowered do not lower it again.
            pause: seconds for which no request should be sent.
        """
        now = self._clock()
        self._paused_until = max(self._paused_until, now + pause)
        if sent < self._lowered_at:
            return
        self.limit = max(1, self.limit // 2)
        self._accepted, self._on_trial, self._doubling = self.limit, False, False
        self._rates_until_trial = RATES_BETWEEN_TRIALS
        self._lowered_at = now
        self._start_measuring()
