"""Messages between the main process and its workers, pickled and sent over a pair of sockets.

Nothing here needs torch: a worker reads its socket before it imports anything heavy.

An *assignment* is a worker's current work: part of a request batch, or images to embed.  Its number is part of
each message about it, so that late messages of an earlier assignment are recognised and ignored.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from evalkit.checkpoint import Checkpoint
from evalkit.types import ImageRef, Request, Response
from evalkit.version import __version__

# ----------------------------------------------------------------------------------------------------- to the worker


@dataclass(frozen=True)
class Start:
    """Load a checkpoint.

    Attributes:
        options: arguments of ``BackendFactory.open``, without the device.
        levels: the log levels of the main process, by logger.
        version: evalkit's version in the main process.
        backend: the name of the workers' backend.
    """

    checkpoint: Checkpoint
    device: str
    options: Mapping[str, Any]
    levels: Mapping[str, int]
    version: str = __version__
    backend: str = "hf"


@dataclass(frozen=True)
class Chunk:
    """Requests of an assignment, to be answered after those sent before."""

    assignment: int
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class EndAssignment:
    """No more chunks of this assignment follow.

    Attributes:
        how: ``done``: all chunks were sent; ``stop``: finish what is in progress; ``drop``: discard it.
    """

    assignment: int
    how: Literal["done", "stop", "drop"]


@dataclass(frozen=True)
class Embed:
    """Images to embed, as a separate assignment."""

    assignment: int
    images: tuple[ImageRef, ...]


# --------------------------------------------------------------------------------------------------- from the worker


@dataclass(frozen=True)
class Ready:
    """The checkpoint is loaded.

    Attributes:
        description: of the worker's backend.
        batch_size: how many requests it answers together.
        memory: bytes in use.
        pid: the worker's process id, on its node.
    """

    description: Mapping[str, Any]
    batch_size: int
    memory: int
    pid: int


@dataclass(frozen=True)
class Reply:
    """A response, and the bytes that the worker uses."""

    assignment: int
    response: Response
    memory: int


@dataclass(frozen=True)
class Embedding:
    """The next image's vector."""

    assignment: int
    vector: tuple[float, ...]


@dataclass(frozen=True)
class AssignmentEnded:
    """The worker no longer works on this assignment."""

    assignment: int


@dataclass(frozen=True)
class Failure:
    """An exception of the worker's backend, to be raised in the main process; no assignment if loading failed."""

    assignment: int | None
    error: Exception


@dataclass(frozen=True)
class DeviceLost:
    """The process can no longer use its device; it exits after sending this."""

    reason: str


@dataclass(frozen=True)
class LogLine:
    """A log message, to be logged in the main process."""

    level: int
    logger: str
    text: str


def sendable(error: Exception) -> Exception:
    """``error`` if it survives pickling unchanged, else a ``RuntimeError`` with its type and message."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:  # pickling may raise anything
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


class Link:
    """One end of the sockets.  Any thread may send; one thread receives."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self.connection = connection
        self._send_lock = threading.Lock()

    def send(self, message: object) -> bool:
        """Send a message; returns whether the other end is open.  Raises whatever pickling raises."""
        content = pickle.dumps(message)
        try:
            with self._send_lock:
                self.connection.send_bytes(content)
        except OSError:
            return False
        return True

    def receive(self) -> Any:
        """Wait for the next message and return it.

        Raises:
            EOFError: the other end is closed.
            Exception: the message cannot be unpickled here.
        """
        try:
            content = self.connection.recv_bytes()
        except OSError as error:  # closed in the middle of a message, or closed here
            raise EOFError from error
        return pickle.loads(content)

    def close(self) -> None:
        """Close this end; the other end receives ``EOFError``."""
        self.connection.close()
