"""The worker's side: one device, one checkpoint, answering chunks until the main process is gone.

A worker process depends on the main process, not on the terminal: it starts with SIGINT and SIGTERM blocked
(``local.py``), and exits immediately when its socket closes.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any, Protocol

from evalkit import registry
from evalkit.errors import UserError
from evalkit.logs import adopt_libraries
from evalkit.types import ImageRef, Request, Response

from .messages import (
    AssignmentEnded,
    Chunk,
    DeviceLost,
    Embed,
    Embedding,
    EndAssignment,
    Failure,
    Link,
    LogLine,
    Ready,
    Reply,
    Start,
    sendable,
)


class Channel(Protocol):
    """A connection to the main process: ``Link``, or ``ActorChannel`` under Ray."""

    def send(self, message: object) -> bool: ...

    def receive(self) -> Any: ...


class WorkerBackend(Protocol):
    """A backend that workers can run."""

    def stream(self, windows: Iterator[Sequence[Request]], stop: threading.Event | None = None) -> Iterator[Response]:
        """The responses to windows of requests that arrive one by one; an empty window: none has arrived yet."""
        ...

    def embed(self, images: Sequence[ImageRef]) -> Iterator[tuple[float, ...]]: ...

    def memory(self) -> int: ...


class Inbox:
    """The messages sent to this worker.

    A thread reads them, and ends the process when the main process is gone.

    Attributes:
        stop: set when the current assignment is to stop.
        drop: set when its responses are no longer wanted.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._assignment = -1
        self.stop = threading.Event()
        self.drop = threading.Event()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                message = self._channel.receive()
            except EOFError:
                os._exit(0)
            except UserError as error:
                message = error
            except Exception as error:  # unpickling may raise anything
                message = UserError(
                    f"a request cannot be read by another process ({type(error).__name__}: {error}); "
                    "give one device, and no --executor."
                )
            if isinstance(message, (Chunk, Embed)) and message.assignment != self._assignment:
                self._assignment, self.stop, self.drop = message.assignment, threading.Event(), threading.Event()
                # The events travel with the assignment: the main thread may still work on the previous one.
                self._messages.put((self.stop, self.drop))
            if isinstance(message, EndAssignment) and message.assignment == self._assignment:
                if message.how != "done":
                    self.stop.set()
                if message.how == "drop":
                    self.drop.set()
            self._messages.put(message)

    def get(self) -> Any:
        """Wait for the next message and return it.  Raises the error if it could not be read."""
        return _raise_if_error(self._messages.get())

    def windows(self, first: Chunk) -> Iterator[tuple[Request, ...]]:
        """The chunks of an assignment as they arrive; an empty one each time none has arrived yet."""
        yield first.requests
        while True:
            try:
                message = _raise_if_error(self._messages.get_nowait())
            except queue.Empty:
                yield ()
                message = self.get()
            if isinstance(message, EndAssignment):
                if message.assignment == first.assignment:
                    return
            else:
                yield message.requests


def _raise_if_error(message: Any) -> Any:
    if isinstance(message, Exception):
        raise message
    return message


class Worker:
    """Processes the messages of an inbox."""

    def __init__(self, channel: Channel, inbox: Inbox, backend: WorkerBackend) -> None:
        self.channel = channel
        self.inbox = inbox
        self.backend = backend
        self._last_assignment = -1  # later messages of this one or an earlier one are ignored

    def serve(self) -> None:
        """Process messages until the process ends."""
        stop, drop = self.inbox.stop, self.inbox.drop
        while True:
            assignment: int | None = None
            try:
                message = self.inbox.get()
                if isinstance(message, tuple):
                    stop, drop = message
                elif isinstance(message, (Chunk, Embed)) and message.assignment > self._last_assignment:
                    assignment = self._last_assignment = message.assignment
                    if isinstance(message, Chunk):
                        self._generate(message, stop, drop)
                    else:
                        self._embed(message, drop)
                    self.channel.send(AssignmentEnded(assignment))
            except Exception as error:
                if reason := lost_device(error):
                    self.channel.send(DeviceLost(reason))
                    os._exit(1)
                self._send_failure(assignment, error)

    def _generate(self, first: Chunk, stop: threading.Event, drop: threading.Event) -> None:
        responses: Any = self.backend.stream(self.inbox.windows(first), stop)
        with closing(responses):
            for response in responses:
                self.channel.send(Reply(first.assignment, response, self.backend.memory()))
                if drop.is_set():
                    break

    def _embed(self, message: Embed, drop: threading.Event) -> None:
        for vector in self.backend.embed(message.images):
            self.channel.send(Embedding(message.assignment, vector))
            if drop.is_set():
                break

    def _send_failure(self, assignment: int | None, error: Exception) -> None:
        copy = sendable(error)
        copy.add_note("".join(traceback.format_exception(error)))  # for the log: notes are pickled, tracebacks are not
        self.channel.send(Failure(assignment, copy))


def lost_device(error: Exception) -> str:
    """The first line of an error after which the process cannot use its GPU any more; empty for other errors."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return ""
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, torch.AcceleratorError) or text.startswith("CUDA error") else ""


# ------------------------------------------------------------------------------------------------------------ starting


class _LogForwarder(logging.Handler):
    """Sends log messages to the main process."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._channel.send(LogLine(record.levelno, record.name, self.format(record)))
        except Exception:
            self.handleError(record)


def _forward_logs(channel: Channel, levels: Mapping[str, int]) -> None:
    root = logging.getLogger()
    root.handlers = [_LogForwarder(channel)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    adopt_libraries()


def main(descriptor: int) -> None:
    """Run a worker on the socket with this file descriptor."""
    os.dup2(2, 1)  # keep prints out of the run's tables
    run_worker(Link(Connection(descriptor)))


def run_worker(channel: Channel) -> None:
    """Run a worker from its first message on; returns if its backend cannot be opened, after sending the reason."""
    inbox = Inbox(channel)
    try:
        start: Start = inbox.get()
        _forward_logs(channel, start.levels)
        import torch

        factory = registry.backends.get(start.backend)
        if start.device.startswith("cuda"):
            torch.cuda.set_device(start.device)  # some kernels run on the current device, not on their tensors'
        backend: Any = factory.open(start.checkpoint, device=start.device, **start.options)
        channel.send(Ready(dict(backend.describe()), backend.batch_size, backend.memory(), os.getpid()))
    except Exception as error:
        channel.send(Failure(None, sendable(error)))
        return
    Worker(channel, inbox, backend).serve()
