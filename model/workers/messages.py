"""What a run's process and its workers say to each other: pickled messages over a pair of sockets.

Nothing here needs torch: a worker listens before it imports anything heavy.
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
    """What a worker is to open, and how: ``options`` are those of ``BackendFactory.open``, the device aside.

    ``levels`` are the log levels of the run's process, by logger, and ``version`` is its evalkit.
    """

    checkpoint: Checkpoint
    device: str
    options: Mapping[str, Any]
    levels: Mapping[str, int]
    version: str = __version__


@dataclass(frozen=True)
class Chunk:
    """Requests of a run, to be answered after those that were sent before."""

    run: int
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class End:
    """No more chunks of this run come: all is answered, what is in work is to be, or nobody wants it any more."""

    run: int
    how: Literal["done", "stop", "drop"]


@dataclass(frozen=True)
class Embed:
    """Images to embed, as a run of its own."""

    run: int
    images: tuple[ImageRef, ...]


# --------------------------------------------------------------------------------------------------- from the worker


@dataclass(frozen=True)
class Ready:
    """The checkpoint is loaded: the backend's description, how many rows it answers together, its process."""

    about: Mapping[str, Any]
    rows: int
    memory: int
    pid: int


@dataclass(frozen=True)
class Answered:
    """A response, and the bytes that the worker takes by now."""

    run: int
    response: Response
    memory: int


@dataclass(frozen=True)
class Embedded:
    run: int
    vector: tuple[float, ...]


@dataclass(frozen=True)
class Ended:
    """Nothing of this run is in work any more."""

    run: int


@dataclass(frozen=True)
class Failed:
    """An exception that would have come out of a backend in the run's own process (None: before the first run)."""

    run: int | None
    error: Exception


@dataclass(frozen=True)
class Lost:
    """The device is of no use any more to this process, which ends after saying so."""

    why: str


@dataclass(frozen=True)
class Logged:
    level: int
    name: str
    text: str


def sendable(error: Exception) -> Exception:
    """``error`` where it can be sent and comes out as it was; else a ``RuntimeError`` that says the same."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:  # whatever it is that does not go through
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


class Link:
    """One end of the sockets.  Any thread may send; one receives."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, message: object) -> bool:
        """Whether there was somebody to send it to.  Raises whatever pickling does."""
        content = pickle.dumps(message)
        try:
            with self._sending:
                self.connection.send_bytes(content)
        except OSError:
            return False
        return True

    def receive(self) -> Any:
        """The next message, once there is one.

        Raises:
            EOFError: there is nobody at the other end any more.
            Exception: the message could not be unpickled here.
        """
        try:
            content = self.connection.recv_bytes()
        except OSError as error:  # cut off in the middle of a message, or closed here
            raise EOFError from error
        return pickle.loads(content)

    def close(self) -> None:
        self.connection.close()
