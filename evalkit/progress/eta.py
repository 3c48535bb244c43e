"""How long a run still takes.

Samples are not alike: the longest are answered first, and of an image's questions the first pays for the image.  So
what is left is told from the tokens that are still to be computed, not from the number of samples.  What a sample costs
beside its tokens (a pass for each token of its answer, say) differs between machines by orders of magnitude; it is
learnt on the way, from how the time went with the tokens and with the samples answered so far.
"""

from __future__ import annotations

from collections.abc import Mapping

# What comes within this share of the wait for the first answer came with it, as the rest of its batch.
TOGETHER = 0.1
# Answers that come within this share of the longest wait for one come from one batch.
AT_ONCE = 0.05
# How much must speak for a cost per sample: squares of the share of the run that it is seen in, more with few batches.
RELUCTANCE = 0.003
FEW = 30


class Pace:
    """The pace of one job's answers.

    Args:
        costs: tokens to compute, by sample id; or 1 for each, where only samples can be counted.
        began: when the first request was handed over, on the clock of all other times (seconds).
    """

    def __init__(self, costs: Mapping[str, int], began: float) -> None:
        self._costs = costs
        self._began = began
        self._all = max(1, sum(costs.values()))
        self._cost = 0
        self._count = 0
        self._first = self._last = began
        self._gap = 0.0
        # Where steady work is taken to begin, as (time, cost, count): what was answered by then had been waited for.
        self._anchor = (began, 0, 0)
        self._sums = _Sums()

    def answered(self, sample: str, now: float) -> None:
        """An answer came."""
        wait = now - self._last
        self._gap = max(self._gap, wait)
        if wait > AT_ONCE * self._gap and self._last > self._anchor[0]:
            self._sums.add(*self._since())  # a batch has ended; what happens within one says nothing
        self._cost += self._costs[sample]
        self._count += 1
        self._last = now
        if self._count == 1:
            self._first = now
        if now - self._first <= TOGETHER * (self._first - self._began):
            self._anchor = (now, self._cost, self._count)

    def left(self, now: float) -> float | None:
        """Seconds until the last answer; None before the first one."""
        if not self._count:
            return None
        if self._last > self._anchor[0]:
            per_cost, per_count = self._sums.slopes(*self._since())
        else:
            per_cost, per_count = (self._last - self._began) / (self._cost / self._all), 0.0
        rest = per_cost * (1 - self._cost / self._all) + per_count * (1 - self._count / len(self._costs))
        # Between answers the clock goes on; not for longer than it ever went, or what hangs would seem about to end.
        return max(0.0, rest - min(now - self._last, self._gap))

    def _since(self) -> tuple[float, float, float]:
        """The cost and the samples answered since the anchor, as shares of all, and the seconds that took."""
        time, cost, count = self._anchor
        return (self._cost - cost) / self._all, (self._count - count) / len(self._costs), self._last - time


class _Sums:
    """Least squares of seconds over (cost, count), both from 0 on, which go through the last point."""

    def __init__(self) -> None:
        self.points = 0
        self.kk = self.nn = self.kn = self.kt = self.nt = 0.0

    def add(self, k: float, n: float, t: float) -> None:
        self.points += 1
        self.kk += k * k
        self.nn += n * n
        self.kn += k * n
        self.kt += k * t
        self.nt += n * t

    def slopes(self, k: float, n: float, t: float) -> tuple[float, float]:
        """Seconds per whole cost, and per whole count beside it, neither below 0; (k, n, t) is the last point.

        With seconds = a·k + b·n and a given by the last point, b minimises the squares of what is left of the others,
        with RELUCTANCE on b, since at first cost and count go together and can hardly be told apart.
        """
        if not self.points:
            return t / k, 0.0
        g, h = n / k, t / k
        xx = self.nn - 2 * g * self.kn + g * g * self.kk
        xy = self.nt - h * self.kn - g * self.kt + g * h * self.kk
        b = max(0.0, xy) / (max(0.0, xx) + RELUCTANCE * (1 + FEW / self.points) * self.kk)
        b = min(b, t / n)
        return h - b * g, b
