"""The schedule of a pool: its request batches by checkpoint, and which checkpoint a free worker should load next.

A worker stays with its checkpoint while requests for it are queued.  Then it switches to the checkpoint with the most
queued requests per worker, unless loading that one would take longer than answering what is queued for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence

from evalkit.checkpoint import Checkpoint
from evalkit.interfaces import RequestBatch
from evalkit.types import Response

from .queue import RequestQueue


class OpenBatch:
    """A request batch whose requests have been built.

    Attributes:
        begun: whether part of it was dispatched to a worker.
        cancelled: whether its responses are no longer wanted.
    """

    def __init__(self, batch: RequestBatch, workers: int) -> None:
        self.batch = batch
        self.queue = RequestQueue(batch.requests(), workers=workers, worker_batch_size=1)
        self.begun = self.cancelled = False

    @property
    def unanswered(self) -> int:
        """The number of requests without a response, queued or dispatched."""
        return 0 if self.cancelled else self.queue.unanswered


class CheckpointSchedule:
    """The request batches of one checkpoint.

    Attributes:
        unopened: batches whose requests have not been built.
        opened: batches that are being answered.
        failed: batches that failed before they were dispatched, each with its error.
    """

    def __init__(self, checkpoint: Checkpoint, workers: int) -> None:
        self.checkpoint = checkpoint
        self.unopened: deque[RequestBatch] = deque()
        self.opened: list[OpenBatch] = []
        self.failed: list[tuple[RequestBatch, Exception]] = []
        self._workers = workers
        self._answered = 0
        self._seconds = 0.0

    def next_batch(self) -> OpenBatch | None:
        """The first batch with queued requests, opened if need be; None if nothing is queued."""
        self.opened = [opened for opened in self.opened if opened.unanswered]
        while True:
            for opened in self.opened:
                if opened.queue and not opened.cancelled:
                    return opened
            if not self.unopened:
                return None
            batch = self.unopened.popleft()
            try:
                self.opened.append(OpenBatch(batch, self._workers))
            except Exception as error:
                self.failed.append((batch, error))

    @property
    def queued(self) -> int:
        """About how many requests are not yet dispatched."""
        known = sum(len(opened.queue) for opened in self.opened if not opened.cancelled)
        return known + sum(batch.size for batch in self.unopened)

    @property
    def unfinished(self) -> bool:
        """Whether any response or failure is still to come."""
        return bool(self.unopened or self.failed or any(opened.unanswered for opened in self.opened))

    def record_time(self, response: Response) -> None:
        """Count the time that an answer took."""
        self._answered += 1
        self._seconds += response.seconds

    def seconds_left(self, workers: int) -> float:
        """Estimated seconds until ``workers`` have answered the queued requests; infinite without an estimate."""
        if workers == 0 or self._seconds == 0:
            return math.inf
        return self.queued * self._seconds / self._answered / workers

    def cancel(self) -> list[RequestBatch]:
        """Cancel all batches; returns those that were not finished."""
        batches = [*(opened.batch for opened in self.opened if opened.unanswered), *self.unopened]
        for opened in self.opened:
            opened.cancelled = True
        self.unopened.clear()
        return batches


class Schedule:
    """All request batches of a call."""

    def __init__(self, batches: Sequence[RequestBatch], workers: int) -> None:
        self.checkpoints: list[CheckpointSchedule] = []
        for batch in batches:
            schedule = self.of(batch.checkpoint)
            if schedule is None:
                schedule = CheckpointSchedule(batch.checkpoint, workers)
                self.checkpoints.append(schedule)
            schedule.unopened.append(batch)

    def __bool__(self) -> bool:
        """Whether anything is unfinished."""
        return any(schedule.unfinished for schedule in self.checkpoints)

    def of(self, checkpoint: Checkpoint | None) -> CheckpointSchedule | None:
        """The batches of one checkpoint."""
        return next((schedule for schedule in self.checkpoints if schedule.checkpoint == checkpoint), None)

    def next_checkpoint(self, loaded: Sequence[Checkpoint | None], load_seconds: float) -> CheckpointSchedule | None:
        """Where a free worker is most useful; None if switching does not pay.

        Args:
            loaded: the checkpoint of each other worker.
            load_seconds: the time that loading a checkpoint takes.
        """

        def workers(schedule: CheckpointSchedule) -> int:
            return sum(checkpoint == schedule.checkpoint for checkpoint in loaded)

        for schedule in sorted(self.checkpoints, key=lambda schedule: -schedule.queued / (workers(schedule) + 1)):
            pays = schedule.queued and schedule.seconds_left(workers(schedule)) > load_seconds
            if pays and schedule.next_batch() is not None:
                return schedule
        return None

    def take_failures(self) -> Iterator[tuple[RequestBatch, Exception]]:
        """Batches that failed before they were dispatched; each is returned once."""
        for schedule in self.checkpoints:
            failed, schedule.failed = schedule.failed, []
            yield from failed

    def cancel(self, batch: RequestBatch) -> OpenBatch | None:
        """Cancel a batch; returns it if its requests had been built."""
        for schedule in self.checkpoints:
            if batch in schedule.unopened:
                schedule.unopened.remove(batch)
            for opened in schedule.opened:
                if opened.batch is batch:
                    opened.cancelled = True
                    return opened
        return None
