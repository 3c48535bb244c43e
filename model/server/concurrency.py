"""Adaptive limit on concurrent requests.

A run of a few hundred samples is over before a limit that starts low has found out what a server can do.  So the first
requests are sent together, and each answer raises the limit further: servers that form batches answer more requests per
second the more they have, and others let requests wait or refuse them.  What a server refuses or does
not bear lowers the limit at once:

- Requests are refused (429, 503, …): the limit is what the server has accepted.  It is raised again in small steps, and
  more rarely where the server asks for pauses, since a refused request then costs a pause.
- Requests fail (500, timeout): the limit is halved.

In long runs, half the limit is tried from time to time, and kept if the rate of answers is no lower: a server may get
slower with more requests than it can hold.  A higher limit is tried after that, and kept if it pays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

FIRST_LIMIT, GROWTH, OPENING_LIMIT = 32, 8, 96
"""The limit at the start of a run, how much each answer raises it, and up to where."""
MIN_ANSWERS = 32
"""The fewest answers over which a rate is measured."""
MIN_GAIN = 1.03
"""A higher limit pays if it multiplies the rate by at least this."""
FIRST_TRIAL = 256
"""The number of answers before which no other limit is tried: a trial that does not pay costs a short run too much."""
MOST_WINDOWS = 64
"""The most rates that are measured between two trials."""
FIRST_PROBE, PAUSED_PROBE, LAST_PROBE = 8, 64, 1024
"""Answers after which a limit that was lowered is raised: first, first if the server asks for pauses, and at most."""


class ConcurrencyLimiter:
    """The number of requests that may be in flight.

    Args:
        maximum: the upper bound of the limit.
        clock: returns the time in seconds.
        slow: seconds that an answer may take at the start of a run before the limit is no longer raised.

    Attributes:
        limit: how many requests may be in flight now.
        highest: the highest limit so far under which all requests were in flight.
        in_flight: the requests that the server has.
    """

    def __init__(self, maximum: int, clock: Callable[[], float] = time.monotonic, slow: float = math.inf) -> None:
        self.maximum = maximum
        self.limit = min(FIRST_LIMIT, maximum)
        self.highest = 0
        self.in_flight = 0
        self._clock = clock
        self._slow = slow
        self._answers = 0
        self._full = False
        self._opening = True
        self._paused_until = self._lowered_at = -math.inf
        # After a server has refused requests, the limit is probed.
        self._probing = False
        self._probe_every, self._answers_until_probe, self._raised = FIRST_PROBE, 0, False
        # If it has not, rates of answers are compared.
        self._accepted, self._rate, self._on_trial = self.limit, 0.0, False
        self._windows, self._windows_until_trial, self._down = 1, 1, True
        self._start_measuring()

    # ---------------------------------------------------------------------------------------------- what happens

    def seconds_paused(self) -> float:
        """Seconds for which no request should be sent."""
        return max(0.0, self._paused_until - self._clock())

    @property
    def may_resend(self) -> bool:
        """Whether a request that was refused may be sent again."""
        return self.in_flight < self.limit and not self.seconds_paused()

    def record_load(self, count: int) -> None:
        """Record how many requests are being answered, those included that wait to be sent again."""
        self._full = count >= self.limit
        if self._full:
            self.highest = max(self.highest, self.limit)
        else:
            self._saturated = False  # the current rate says nothing about the limit

    def record_sent(self) -> None:
        """A request was sent."""
        self.in_flight += 1

    def record_done(self) -> None:
        """The server replied to a request, or refused it, or the connection failed."""
        self.in_flight -= 1

    def record_answer(self, seconds: float = 0.0) -> None:
        """A sample was answered, ``seconds`` after it was sent."""
        self._answers += 1
        if self._probing:
            self._probe()
        elif self._opening:
            self._open(seconds)
        else:
            self._measure()

    def record_overload(self, sent: float, pause: float = 0.0, *, refused: bool = False) -> None:
        """The server has too many requests.

        Args:
            sent: when the request was sent.  Requests sent before the limit was last lowered do not lower it again.
            pause: seconds for which the server asks to send nothing.
            refused: whether it refused the request, so that it works only on those that are in flight.
        """
        now = self._clock()
        self._paused_until = max(self._paused_until, now + pause)
        if sent <= self._lowered_at:
            return
        if not refused:
            self.limit //= 2
        elif self._opening:
            self.limit = min(self.limit, self.in_flight)
        else:
            self.limit = min(self.limit - 1, max(self.in_flight, self.limit * 3 // 4))
        self.limit = max(1, self.limit)
        if pause > 0:
            self._probe_every = min(LAST_PROBE, max(PAUSED_PROBE, self._probe_every * (2 if self._raised else 1)))
        self._opening, self._probing, self._raised = False, True, False
        self._answers_until_probe = max(self._probe_every, self.limit)
        self._lowered_at = now

    # ------------------------------------------------------------------------------------------------- what follows

    def _open(self, seconds: float) -> None:
        if self._full and seconds <= self._slow:
            self.limit = min(self.maximum, OPENING_LIMIT, self.limit + GROWTH)
        if self.limit >= min(self.maximum, OPENING_LIMIT) or seconds > self._slow:
            self._opening, self._accepted = False, self.limit
            self._start_measuring()

    def _probe(self) -> None:
        self._answers_until_probe -= 1
        if self._answers_until_probe > 0 or not self._full or self.limit == self.maximum:
            return
        self.limit, self._raised = min(self.maximum, self.limit + max(1, self.limit // 4)), True
        self._answers_until_probe = max(self._probe_every, self.limit)

    def _start_measuring(self) -> None:
        self._since = self._clock()
        self._in_flight_before = self.limit
        self._count = 0
        self._saturated = True

    def _measure(self) -> None:
        if self._in_flight_before > 0:
            self._in_flight_before -= 1
            if self._in_flight_before == 0:
                self._since = self._clock()
            return
        self._count += 1
        if self._count < max(self.limit, MIN_ANSWERS):
            return
        if self._saturated:
            self._compare(self._count / max(1e-6, self._clock() - self._since))
        self._start_measuring()

    def _compare(self, rate: float) -> None:
        if not self._on_trial:
            self._rate = rate
            self._windows_until_trial -= 1
            if self._windows_until_trial <= 0 and self._answers >= FIRST_TRIAL:
                self._try()
        elif rate >= self._rate * MIN_GAIN:
            self._accepted, self._rate, self._windows = self.limit, rate, 1
            self._try()
        else:
            self.limit, self._on_trial, self._down = self._accepted, False, not self._down
            self._windows = self._windows_until_trial = min(MOST_WINDOWS, 2 * self._windows)

    def _try(self) -> None:
        """Try half the limit, or one and a half times the limit; where there is none, the other one next."""
        self.limit = max(1, self._accepted // 2) if self._down else min(self.maximum, self._accepted * 3 // 2 + 1)
        self._on_trial = self.limit != self._accepted
        if not self._on_trial:
            self._down, self._windows_until_trial = not self._down, self._windows
