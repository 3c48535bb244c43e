"""The worker's side: one device, one checkpoint, answering chunk after chunk until the run's process is gone.

A worker in a process of its own follows that process, not the terminal: it starts with SIGINT and SIGTERM blocked
(``local.py``), and ends, at whatever it is, as soon as its socket closes.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from evalkit.errors import UserError
from evalkit.types import Request

from .messages import Answered, Chunk, Embed, Embedded, End, Ended, Failed, Link, Logged, Lost, Ready, Start, sendable

if TYPE_CHECKING:
    from ..backends.hf import HFBackend


class Wire(Protocol):
    """What messages come and go by: ``Link``, or what stands in its place."""

    def send(self, message: object) -> bool: ...

    def receive(self) -> Any: ...


class Inbox:
    """What has been sent to this worker; a thread of its own reads it, and ends the process with its parent."""

    def __init__(self, link: Wire) -> None:
        self._link = link
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._run = -1
        self.stop = threading.Event()
        self.drop = threading.Event()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                message = self._link.receive()
            except EOFError:
                os._exit(0)
            except UserError as error:
                message = error
            except Exception as error:  # unpickling raises whatever it likes
                message = UserError(
                    f"what is asked cannot be read by another process ({type(error).__name__}: {error}); "
                    "give one device, and no --executor."
                )
            if isinstance(message, (Chunk, Embed)) and message.run != self._run:
                self._run, self.stop, self.drop = message.run, threading.Event(), threading.Event()
                # The events go with the run: the main thread may still be at the one before.
                self._messages.put((self.stop, self.drop))
            if isinstance(message, End) and message.run == self._run:
                if message.how != "done":
                    self.stop.set()
                if message.how == "drop":
                    self.drop.set()
            self._messages.put(message)

    def get(self) -> Any:
        """The next message.  Raises what was wrong with it, where it could not be read."""
        return _message(self._messages.get())

    def windows(self, first: Chunk) -> Iterator[tuple[Request, ...]]:
        """The chunks of a run, as they come; an empty one where there is none yet, but something is in work."""
        yield first.requests
        while True:
            try:
                message = _message(self._messages.get_nowait())
            except queue.Empty:
                yield ()
                message = self.get()
            if isinstance(message, End):
                if message.run == first.run:
                    return
            else:
                yield message.requests


def _message(message: Any) -> Any:
    if isinstance(message, Exception):
        raise message
    return message


class Worker:
    """Answers what is in the inbox."""

    def __init__(self, link: Wire, inbox: Inbox, backend: HFBackend) -> None:
        self.link = link
        self.inbox = inbox
        self.backend = backend
        self._past = -1  # the last run that is over; what still comes of it is not answered

    def serve(self) -> None:
        """Do as the messages say, for ever."""
        stop, drop = self.inbox.stop, self.inbox.drop
        while True:
            run: int | None = None
            try:
                message = self.inbox.get()
                if isinstance(message, tuple):
                    stop, drop = message
                elif isinstance(message, (Chunk, Embed)) and message.run > self._past:
                    run = self._past = message.run
                    if isinstance(message, Chunk):
                        self._generate(message, stop, drop)
                    else:
                        self._embed(message, drop)
                    self.link.send(Ended(run))
            except Exception as error:
                if lost := _lost(error):
                    self.link.send(Lost(lost))
                    os._exit(1)
                self._failed(run, error)

    def _generate(self, first: Chunk, stop: threading.Event, drop: threading.Event) -> None:
        answers: Any = self.backend.stream(self.inbox.windows(first), stop)
        with closing(answers):
            for response in answers:
                self.link.send(Answered(first.run, response, self.backend.memory()))
                if drop.is_set():
                    break

    def _embed(self, message: Embed, drop: threading.Event) -> None:
        for vector in self.backend.embed(message.images):
            self.link.send(Embedded(message.run, vector))
            if drop.is_set():
                break

    def _failed(self, run: int | None, error: Exception) -> None:
        said = sendable(error)
        said.add_note("".join(traceback.format_exception(error)))  # for the log: notes are pickled, tracebacks not
        self.link.send(Failed(run, said))


def _lost(error: Exception) -> str:
    """What an error says, after which a process can do nothing with its GPU; empty for others."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return ""
    said = (str(error).strip().splitlines() or [""])[0]
    return said if isinstance(error, torch.AcceleratorError) or said.startswith("CUDA error") else ""


# ------------------------------------------------------------------------------------------------------------- a start


class _Relay(logging.Handler):
    """Sends log lines to the run's process."""

    def __init__(self, link: Wire) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._link.send(Logged(record.levelno, record.name, self.format(record)))
        except Exception:
            self.handleError(record)


def _relay(link: Wire, levels: Mapping[str, int]) -> None:
    root = logging.getLogger()
    root.handlers = [_Relay(link)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    import transformers

    chatter: Any = transformers.utils.logging  # it has a handler of its own
    chatter.disable_default_handler()
    chatter.enable_propagation()


def main(descriptor: int) -> None:
    """A worker, from its socket on."""
    os.dup2(2, 1)  # whatever prints does not print into the run's tables
    work(Link(Connection(descriptor)))


def work(link: Wire) -> None:
    """A worker, from its first message on; returns where it could not be opened, having said why."""
    inbox = Inbox(link)
    try:
        start: Start = inbox.get()
        _relay(link, start.levels)
        import torch

        from ..backends.hf import BACKEND

        if start.device.startswith("cuda"):
            torch.cuda.set_device(start.device)  # some kernels go to the current device, wherever their tensors are
        backend: Any = BACKEND.open(start.checkpoint, device=start.device, **start.options)
        link.send(Ready(dict(backend.describe()), backend.batch_size, backend.memory(), os.getpid()))
    except Exception as error:
        link.send(Failed(None, sendable(error)))
        return
    Worker(link, inbox, backend).serve()
