"""Estimated time remaining.

Samples differ in cost: the longest run first, and the first question about an image pays for the image.  So the
estimate counts the tokens still to compute, not the samples.  The cost of a sample apart from its tokens (such as a
decode step per answer token) differs between machines by orders of magnitude; it is fitted during the run, from the
time that tokens and samples have taken so far.
"""

from __future__ import annotations

from collections.abc import Mapping

# Answers within this share of the wait for the first one belong to the first batch.
FIRST_BATCH = 0.1
# Answers within this share of the longest wait belong to one batch.
SAME_BATCH = 0.05
# Ridge penalty on the per-sample cost; stronger with few batches.
RIDGE = 0.003
FEW_BATCHES = 30


class TimeEstimate:
    """Fits the time per token and per sample of one job.

    Args:
        costs: tokens to compute, by sample id; 1 for each if the backend cannot estimate them.
        began: when the first request was submitted (seconds, on the same clock as all other times).
    """

    def __init__(self, costs: Mapping[str, int], began: float) -> None:
        self._costs = costs
        self._began = began
        self._all = max(1, sum(costs.values()))
        self._cost = 0
        self._count = 0
        self._first = self._last = began
        self._gap = 0.0
        # Start of steady work, as (time, cost, count): earlier answers include the start-up.
        self._anchor = (began, 0, 0)
        self._sums = _Sums()

    def answered(self, sample: str, now: float) -> None:
        """Count an answer."""
        wait = now - self._last
        self._gap = max(self._gap, wait)
        if wait > SAME_BATCH * self._gap and self._last > self._anchor[0]:
            self._sums.add(*self._since())  # a batch has ended; times within a batch carry no information
        self._cost += self._costs[sample]
        self._count += 1
        self._last = now
        if self._count == 1:
            self._first = now
        if now - self._first <= FIRST_BATCH * (self._first - self._began):
            self._anchor = (now, self._cost, self._count)

    def left(self, now: float) -> float | None:
        """Estimated seconds until the last answer; None before the first one."""
        if not self._count:
            return None
        if self._last > self._anchor[0]:
            per_cost, per_count = self._sums.slopes(*self._since())
        else:
            per_cost, per_count = (self._last - self._began) / (self._cost / self._all), 0.0
        rest = per_cost * (1 - self._cost / self._all) + per_count * (1 - self._count / len(self._costs))
        # Count down between answers, but no longer than the longest gap: a run that hangs must not seem nearly done.
        return max(0.0, rest - min(now - self._last, self._gap))

    def _since(self) -> tuple[float, float, float]:
        """Cost and samples since the anchor, as shares of all, and the seconds they took."""
        time, cost, count = self._anchor
        return (self._cost - cost) / self._all, (self._count - count) / len(self._costs), self._last - time


class _Sums:
    """Least squares fit of seconds over (cost, count), through the origin and the last point."""

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
        """Seconds for the total cost and for the total count, both at least 0; (k, n, t) is the last point.

        With seconds = a·k + b·n and a given by the last point, b minimises the squared residuals of the others, with
        a RIDGE penalty on b, since early on cost and count are nearly collinear.
        """
        if not self.points:
            return t / k, 0.0
        g, h = n / k, t / k
        xx = self.nn - 2 * g * self.kn + g * g * self.kk
        xy = self.nt - h * self.kn - g * self.kt + g * h * self.kk
        b = max(0.0, xy) / (max(0.0, xx) + RIDGE * (1 + FEW_BATCHES / self.points) * self.kk)
        b = min(b, t / n)
        return h - b * g, b
