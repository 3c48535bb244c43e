"""What workers are to answer, checkpoint by checkpoint, and which of it a worker that is free should turn to.

A worker stays with the checkpoint it has loaded while there is something to ask it.  Then it turns to where most is
left for each worker that is there, unless loading that checkpoint would take longer than what is left there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence

from evalkit.checkpoint import Checkpoint
from evalkit.interfaces import RequestBatch
from evalkit.types import Response

from .queue import Queue


class Opened:
    """A lot whose requests are known.

    Attributes:
        begun: some of it was handed to a worker.
        over: nothing of it is wanted any more.
    """

    def __init__(self, lot: RequestBatch, workers: int) -> None:
        self.lot = lot
        self.queue = Queue(lot.requests(), workers=workers, rows=1)
        self.begun = self.over = False

    @property
    def unanswered(self) -> int:
        """Requests without a response, wherever they are."""
        return 0 if self.over else self.queue.unanswered


class Side:
    """One checkpoint's part of the work."""

    def __init__(self, checkpoint: Checkpoint, workers: int) -> None:
        self.checkpoint = checkpoint
        self.unopened: deque[RequestBatch] = deque()
        self.opened: list[Opened] = []
        self.failed: list[tuple[RequestBatch, Exception]] = []
        self._workers = workers
        self._answered = 0
        self._seconds = 0.0

    def next(self) -> Opened | None:
        """The first lot that has something to hand out; the next is opened where none has.  None: there is nothing."""
        self.opened = [one for one in self.opened if one.unanswered]
        while True:
            for one in self.opened:
                if one.queue and not one.over:
                    return one
            if not self.unopened:
                return None
            lot = self.unopened.popleft()
            try:
                self.opened.append(Opened(lot, self._workers))
            except Exception as error:
                self.failed.append((lot, error))

    @property
    def left(self) -> int:
        """About how many requests are to be handed out."""
        waiting = sum(len(one.queue) for one in self.opened if not one.over)
        return waiting + sum(lot.size for lot in self.unopened)

    @property
    def going(self) -> bool:
        """Whether anything of it is unanswered."""
        return bool(self.unopened or self.failed or any(one.unanswered for one in self.opened))

    def answered(self, response: Response) -> None:
        """Note how long an answer took."""
        self._answered += 1
        self._seconds += response.seconds

    def seconds_left(self, workers: int) -> float:
        """How long so many workers will be busy with what is to be handed out; infinite as long as that is unknown."""
        if workers == 0 or self._seconds == 0:
            return math.inf
        return self.left * self._seconds / self._answered / workers

    def drop(self, error: Exception | None = None) -> Iterator[tuple[RequestBatch, Exception]]:
        """Nothing of it is to be answered any more; each lot with ``error``, which is why."""
        lots = [*(one.lot for one in self.opened if one.unanswered), *self.unopened]
        for one in self.opened:
            one.over = True
        self.unopened.clear()
        if error is not None:
            yield from ((lot, error) for lot in lots)


class Work:
    """All lots."""

    def __init__(self, lots: Sequence[RequestBatch], workers: int) -> None:
        self.sides: list[Side] = []
        for lot in lots:
            side = self.side(lot.checkpoint)
            if side is None:
                side = Side(lot.checkpoint, workers)
                self.sides.append(side)
            side.unopened.append(lot)

    def __bool__(self) -> bool:
        """Whether anything is unanswered."""
        return any(side.going for side in self.sides)

    def side(self, checkpoint: Checkpoint | None) -> Side | None:
        """The part of the work that is one checkpoint's."""
        return next((side for side in self.sides if side.checkpoint == checkpoint), None)

    def turn_to(self, workers: Sequence[Checkpoint | None], seconds_to_load: float) -> Side | None:
        """Where a free worker is of most use.

        Args:
            workers: the checkpoint that each of the others has.
            seconds_to_load: what loading a checkpoint takes.
        """
        there = {id(side): sum(has == side.checkpoint for has in workers) for side in self.sides}
        for side in sorted(self.sides, key=lambda side: -side.left / (there[id(side)] + 1)):
            if side.left and side.seconds_left(there[id(side)]) > seconds_to_load and side.next() is not None:
                return side
        return None

    def failures(self) -> Iterator[tuple[RequestBatch, Exception]]:
        """Lots whose requests could not be had, once."""
        for side in self.sides:
            failed, side.failed = side.failed, []
            yield from failed

    def drop(self, lot: RequestBatch) -> Opened | None:
        """Nothing of ``lot`` is to be answered any more."""
        for side in self.sides:
            if lot in side.unopened:
                side.unopened.remove(lot)
            for one in side.opened:
                if one.lot is lot:
                    one.over = True
                    return one
        return None
