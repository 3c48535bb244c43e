"""A pool of workers that share one queue, each with its own checkpoint: dispatch of requests, and their responses.

A worker that dies costs only time: its unanswered requests are requeued, and it is restarted a few times.  A request
that was in progress in two workers that died is answered with an error.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any, Literal

from evalkit.checkpoint import Checkpoint
from evalkit.errors import UserError
from evalkit.interfaces import RequestBatch, WorkerPool
from evalkit.types import ImageRef, Request, Response

from .handle import WorkerHandle
from .messages import Embed, Embedding, EndAssignment, Failure, Reply
from .schedule import OpenBatch, Schedule
from .supervisor import Advice, Supervisor

log = logging.getLogger(__name__)

# Images to embed that are sent in one message.
EMBED_CHUNK = 64


class QueuePool(WorkerPool):
    """A worker pool whose workers share one queue.

    Args:
        handles: of workers that are not started.
        wait_for_messages: returns the workers that have sent a message or died, within a number of seconds.
        close: ends all of them.
        options: arguments of their backend's ``open``, without checkpoint and device.
        advice: what error messages say about the workers.
        recorded: further entries for the run's manifest.
        device: of each worker, if it is the same for all.
    """

    def __init__(
        self,
        handles: Sequence[WorkerHandle],
        *,
        wait_for_messages: Callable[[Sequence[WorkerHandle], float], Sequence[WorkerHandle]],
        close: Callable[[Sequence[WorkerHandle]], None],
        options: Mapping[str, Any],
        advice: Advice,
        recorded: Mapping[str, Any] | None = None,
        device: str = "",
    ) -> None:
        self.handles = list(handles)
        self.recorded = dict(recorded or {})
        self.device = device
        self._finalizer = weakref.finalize(self, close, self.handles)  # at the latest when the pool is collected
        self._supervisor = Supervisor(
            self.handles, wait_for_messages=wait_for_messages, options=options, advice=advice
        )  # fmt: skip
        self._advice = advice
        self._last_assignment = 0
        self._busy = False
        self._schedule = Schedule((), 1)

    def close(self) -> None:
        """End the workers; later calls have no effect."""
        self._finalizer()

    def descriptions(self, checkpoint: Checkpoint) -> Mapping[str, Mapping[str, Any]]:
        """The backend descriptions of the workers that have loaded ``checkpoint``, by the workers' names."""
        return self._supervisor.descriptions_of(checkpoint)

    def load(self, checkpoint: Checkpoint) -> None:
        """Have all workers load ``checkpoint`` and wait for them.

        Raises:
            UserError: the checkpoint cannot be opened with these options.
            RunFailed: all workers died.
        """
        self._supervisor.load(checkpoint)

    # ------------------------------------------------------------------------------------------------------- answering

    def answer(
        self, batches: Sequence[RequestBatch], stop: Event | None = None
    ) -> Iterator[tuple[RequestBatch, Response | Exception]]:
        """A response to every request of every batch, in the order in which workers finish them.

        A batch that fails gets one exception, the one that a backend in this process would have raised; the others go
        on.

        Raises:
            RunFailed: all workers died.
        """
        self._claim()
        schedule = self._schedule = Schedule(batches, len(self.handles))
        stopping = False
        try:
            while schedule:
                if not stopping and stop is not None and stop.is_set():
                    stopping = True
                    self._end_assignments("stop")
                if stopping and all(handle.assignment is None for handle in self.handles):
                    return
                if not stopping:
                    self._dispatch(schedule)
                    yield from schedule.take_failures()
                for handle, message in self._supervisor.poll():
                    yield from self._process(schedule, handle, message, restart=not stopping)
        finally:
            self._release()

    def drop(self, batch: RequestBatch) -> None:
        """Cancel a batch: no response to it is returned any more."""
        opened = self._schedule.cancel(batch)
        for handle in self.handles:
            if handle.assignment is not None and handle.batch is opened is not None:
                handle.reclaim()
                handle.send(EndAssignment(handle.assignment, "drop"))

    def _process(
        self, schedule: Schedule, handle: WorkerHandle, message: Any, *, restart: bool
    ) -> Iterator[tuple[RequestBatch, Response | Exception]]:
        """Process a worker's message (None: it died); yields the responses and errors that come of it."""
        opened = handle.batch
        wanted = opened is not None and not opened.cancelled
        if isinstance(message, Reply):
            if message.assignment == handle.assignment and opened is not None and wanted:
                handle.record_answer(message.response.id, message.memory)
                opened.queue.unanswered -= 1
                if of_checkpoint := schedule.of(opened.batch.checkpoint):
                    of_checkpoint.record_time(message.response)
                yield opened.batch, message.response
        elif isinstance(message, Failure) and message.assignment is None:
            yield from self._fail_checkpoint(schedule, handle, message.error)
        elif isinstance(message, Failure):
            handle.reclaim()
            handle.clear_assignment()
            if opened is not None and wanted:
                self.drop(opened.batch)
                yield opened.batch, message.error
        elif message is None:
            in_progress, untouched = handle.reclaim()
            reason = self._supervisor.handle_death(handle, len(in_progress) + len(untouched), restart=restart)
            if opened is not None and wanted:
                for request in opened.queue.requeue(in_progress, untouched):
                    opened.queue.unanswered -= 1
                    yield opened.batch, _crash_response(request, reason)

    def _fail_checkpoint(
        self, schedule: Schedule, handle: WorkerHandle, error: Exception
    ) -> Iterator[tuple[RequestBatch, Exception]]:
        """A checkpoint cannot be loaded: its batches fail, and the worker is free for other checkpoints."""
        of_checkpoint = schedule.of(handle.checkpoint)
        handle.unload()
        if of_checkpoint is not None:
            for batch in of_checkpoint.cancel():
                self.drop(batch)
                yield batch, error

    # ----------------------------------------------------------------------------------------------------- dispatching

    def _dispatch(self, schedule: Schedule) -> None:
        """Send chunks to the workers that can take one, those with the fewest outstanding requests first."""
        self._supervisor.check()
        while any(
            self._dispatch_to(handle, schedule)
            for handle in sorted(self.handles, key=lambda handle: handle.outstanding)
        ):
            pass

    def _dispatch_to(self, handle: WorkerHandle, schedule: Schedule) -> bool:
        """Send a worker its next chunk if it can take one; returns whether it may take another."""
        if handle.failure is not None or (handle.start is not None and not handle.ready):
            return False
        if handle.assignment is None and not self._assign_batch(handle, schedule):
            return False
        opened = handle.batch
        if handle.assignment is not None and (opened is None or opened.cancelled or not opened.queue):
            if not handle.outstanding and not handle.finishing:
                handle.finishing = True
                handle.send(EndAssignment(handle.assignment, "done"))
            return False
        if opened is None or not handle.wants_chunk or handle.finishing:
            return False
        if not opened.begun:
            opened.begun = True
            opened.batch.begin()
        opened.queue.worker_batch_size = handle.batch_size
        try:
            handle.dispatch(opened.queue.take_chunk())
        except Exception as error:  # pickling may raise anything
            self._fail_unsent(schedule, opened, error)
            return False
        return True

    def _assign_batch(self, handle: WorkerHandle, schedule: Schedule) -> bool:
        """Give a free worker a batch of its checkpoint, or have it load another; returns whether it has a batch."""
        of_checkpoint = schedule.of(handle.checkpoint)
        opened = None if of_checkpoint is None else of_checkpoint.next_batch()
        if opened is None:
            self._switch_checkpoint(handle, schedule)
            return False
        handle.assign(self._next_assignment(), opened)
        return True

    def _switch_checkpoint(self, handle: WorkerHandle, schedule: Schedule) -> None:
        """Have a free worker load another checkpoint if that pays."""
        loaded = [other.checkpoint for other in self.handles if other is not handle]
        times = [other.load_seconds for other in self.handles if other.load_seconds is not None]
        chosen = schedule.next_checkpoint(loaded, max(times, default=0.0))
        if chosen is not None and chosen.checkpoint != handle.checkpoint:
            self._supervisor.launch(handle, chosen.checkpoint)

    def _fail_unsent(self, schedule: Schedule, opened: OpenBatch, error: Exception) -> None:
        """Fail a batch with a request that cannot be pickled."""
        failure = UserError(
            f"{self._advice.option}: a request cannot be sent to another process ({type(error).__name__}: {error}); "
            f"{self._advice.instead}."
        )
        failure.__cause__ = error
        self.drop(opened.batch)
        if of_checkpoint := schedule.of(opened.batch.checkpoint):
            of_checkpoint.failed.append((opened.batch, failure))

    # ------------------------------------------------------------------------------------------------------- embedding

    def embed(self, checkpoint: Checkpoint, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]:
        """One vector per image, from one of the workers, as the ``hf`` backend computes it.

        Raises:
            OSError: an image cannot be read.
            UserError: the model has no separate vision encoder.
            RunFailed: all workers died.
        """
        done = 0
        while done < len(images):
            self._claim()
            assignment = self._next_assignment()
            chosen: WorkerHandle | None = None
            try:
                while chosen is None or chosen.assignment == assignment:
                    self._supervisor.check()
                    if chosen is None and (chosen := next((handle for handle in self.handles if handle.ready), None)):
                        chosen.assign(assignment)
                        chosen.send(Embed(assignment, tuple(images[done : done + EMBED_CHUNK])))
                    for handle, message in self._supervisor.poll():
                        if isinstance(message, Embedding) and message.assignment == assignment:
                            done += 1
                            yield message.vector
                        elif isinstance(message, Failure):
                            raise message.error
                        elif message is None:
                            self._supervisor.handle_death(handle, 0, restart=True)
            finally:
                self._release()

    # ----------------------------------------------------------------------------------------------------- assignments

    def _next_assignment(self) -> int:
        self._last_assignment += 1
        return self._last_assignment

    def _claim(self) -> None:
        if self._busy:
            raise RuntimeError("the worker pool is still in use: finish or close the previous iterator first")
        self._busy = True

    def _release(self) -> None:
        self._busy = False
        self._end_assignments("drop")
        for handle in self.handles:
            handle.reclaim()
            handle.clear_assignment()

    def _end_assignments(self, how: Literal["stop", "drop"]) -> None:
        for handle in self.handles:
            if handle.assignment is not None:
                handle.send(EndAssignment(handle.assignment, how))


def _crash_response(request: Request, reason: str) -> Response:
    error = f"two workers died while answering this sample and others of its chunk (the second: {reason})"
    log.warning("sample %s: %s", request.id, error)
    return Response(id=request.id, finish="error", error=error)
