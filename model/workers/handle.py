"""Parent-side handle of a worker: its state, and the chunks dispatched to it.

Subclasses say where it runs: in a process of this machine (``local``) or as an actor of a Ray cluster (``ray_pool``).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.types import Request

from .messages import Chunk, Ready, Start
from .schedule import OpenBatch

# How often a worker that died is restarted.
MAX_RESTARTS = 2
# Dispatched chunks of which no request is answered yet: the worker prepares one while it answers another.
PREFETCHED_CHUNKS = 2


class WorkerHandle(ABC):
    """Handle of one worker.

    Args:
        name: the worker's name in messages.
        device: the device of its model, as its process names it.

    Attributes:
        start: the message that it was started with; None if it is not running.
        restarted: whether it has loaded the checkpoint before and died since.
        restarts: how often it was restarted.
        description: its backend's description, once the checkpoint is loaded.
        batch_size: how many requests it answers together.
        memory: bytes in use.
        pid: its process id, on its node.
        load_seconds: the time that loading took, once that is known.
        failure: why the worker is no longer used; None if it is in use.
        exit_reason: the reason that it gave before it exited.
        assignment: the number of its current assignment; None if it has none.
        batch: the batch that the assignment belongs to; None for images to embed.
        finishing: whether it has been notified that no more chunks of the assignment follow.
    """

    def __init__(self, name: str, device: str) -> None:
        self.name = name
        self.device = device
        self.restarts = 0
        self.failure: str | None = None
        self.batch_size = 1
        self.memory = 0
        self.pid = 0
        self.load_seconds: float | None = None
        self.start: Start | None = None
        self.restarted = False
        self.assignment: int | None = None
        self.batch: OpenBatch | None = None
        self.finishing = False
        self._reset()

    def _reset(self) -> None:
        self.description: Mapping[str, Any] | None = None
        self.exit_reason: str | None = None
        self._chunks: list[tuple[dict[str, Request], int]] = []  # unanswered requests by id; the chunk's size
        self.clear_assignment()

    def launch(self, start: Start, *, restarted: bool = False) -> None:
        """Start the worker, which loads the checkpoint; ``restarted`` if it has loaded it before."""
        self.start, self.restarted = start, restarted
        self._reset()
        self._launched = time.monotonic()
        self._launch(start)

    def unload(self) -> None:
        """End the worker's process; it can be launched again."""
        self.end()
        self.start = None
        self._reset()

    def set_ready(self, ready: Ready) -> None:
        """Record that the checkpoint is loaded."""
        self.description, self.batch_size, self.memory, self.pid = (
            ready.description,
            ready.batch_size,
            ready.memory,
            ready.pid,
        )
        self.load_seconds = time.monotonic() - self._launched

    @abstractmethod
    def _launch(self, start: Start) -> None: ...

    @abstractmethod
    def send(self, message: object) -> bool:
        """Send a message; returns whether the worker is reachable.  Raises whatever pickling raises."""

    @abstractmethod
    def receive(self) -> Any:
        """A message that has arrived.  Raises ``EOFError`` if the worker has died."""

    @abstractmethod
    def end(self) -> str:
        """End the worker, wait for it briefly, and return how it ended."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint that it has loaded or is loading."""
        return None if self.start is None or self.failure is not None else self.start.checkpoint

    @property
    def ready(self) -> bool:
        """Whether its checkpoint is loaded."""
        return self.description is not None

    @property
    def outstanding(self) -> int:
        """The number of dispatched requests without a response."""
        return sum(len(unanswered) for unanswered, _ in self._chunks)

    @property
    def wants_chunk(self) -> bool:
        """Whether it needs another chunk to stay busy."""
        untouched = sum(len(unanswered) == size for unanswered, size in self._chunks)
        return self.ready and untouched < PREFETCHED_CHUNKS

    def assign(self, assignment: int, batch: OpenBatch | None = None) -> None:
        """Begin a new assignment."""
        self.assignment, self.batch, self.finishing = assignment, batch, False

    def clear_assignment(self) -> None:
        """End the assignment."""
        self.assignment, self.batch, self.finishing = None, None, False

    def dispatch(self, requests: tuple[Request, ...]) -> None:
        """Send it a chunk.  Raises whatever pickling raises."""
        assert self.assignment is not None
        self.send(Chunk(self.assignment, requests))
        self._chunks.append(({request.id: request for request in requests}, len(requests)))

    def record_answer(self, request_id: str, memory: int) -> None:
        """Record that a request has its response, and the bytes in use."""
        self.memory = memory
        for unanswered, _ in self._chunks:
            if unanswered.pop(request_id, None) is not None:
                break
        self._chunks = [(unanswered, size) for unanswered, size in self._chunks if unanswered]

    def reclaim(self) -> tuple[list[Request], list[Request]]:
        """Take back the unanswered requests: those of the chunk in progress, and those of the chunks after it."""
        in_progress, *untouched = [list(unanswered.values()) for unanswered, _ in self._chunks] or [[]]
        self._chunks = []
        return in_progress, [request for chunk in untouched for request in chunk]
