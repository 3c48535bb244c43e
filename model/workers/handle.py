"""One worker, as the run sees it: what was handed to it, and what became of it.

Where it lives is another matter: in a process of this machine (``local``) or wherever Ray puts it (``cluster``).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from evalkit.checkpoint import Checkpoint
from evalkit.types import Request

from .messages import Chunk, Ready, Start
from .schedule import Opened

# How often a worker that died is started anew.
RESTARTS = 2
# Chunks of which no answer has come: the one that is being prepared while another is in work, and the next.
AT_HAND = 2


class Hand(ABC):
    """One worker.

    Args:
        name: what messages call it.
        device: where its model is, as it calls the place.

    Attributes:
        start: what it was started with; None before.
        again: whether it had loaded the same before it died.
        about: its backend's description, once the checkpoint is loaded.
        rows: how many requests it answers together.
        memory: the bytes that it takes.
        pid: of its process, on its node.
        seconds_to_load: how long that took, once it is known.
        gone: why it is not to be used any more.
        lost: why it said that it would end.
        run: the number of what it is at; None where it has said that it is through.
        at: the lot that this is.
        finishing: whether it was told that no more of that comes.
    """

    def __init__(self, name: str, device: str) -> None:
        self.name = name
        self.device = device
        self.restarts = 0
        self.gone: str | None = None
        self.rows = 1
        self.memory = 0
        self.pid = 0
        self.seconds_to_load: float | None = None
        self.start: Start | None = None
        self.again = False
        self.run: int | None = None
        self.at: Opened | None = None
        self.finishing = False
        self._reset()

    def _reset(self) -> None:
        self.about: Mapping[str, Any] | None = None
        self.lost: str | None = None
        self._chunks: list[tuple[dict[str, Request], int]] = []  # unanswered requests by id, and how many there were
        self.through()

    def begin(self, start: Start, *, again: bool = False) -> None:
        """Start it, and have it load the checkpoint; ``again`` where it had done so before it died."""
        self.start, self.again = start, again
        self._reset()
        self._began = time.monotonic()
        self._begin(start)

    def put_away(self) -> None:
        """End it for now; it can be started again."""
        self.end()
        self.start = None
        self._reset()

    def loaded(self, ready: Ready) -> None:
        """It has loaded the checkpoint."""
        self.about, self.rows, self.memory, self.pid = ready.about, ready.rows, ready.memory, ready.pid
        self.seconds_to_load = time.monotonic() - self._began

    @abstractmethod
    def _begin(self, start: Start) -> None: ...

    @abstractmethod
    def send(self, message: object) -> bool:
        """Whether there was somebody to send it to.  Raises whatever pickling does."""

    @abstractmethod
    def receive(self) -> Any:
        """A message that is there.  Raises ``EOFError`` where it has died."""

    @abstractmethod
    def end(self) -> str:
        """End it, wait for it where that is short, and say how it ended."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The one that it has, or is about to have."""
        return None if self.start is None or self.gone is not None else self.start.checkpoint

    @property
    def ready(self) -> bool:
        """Whether it can be asked something."""
        return self.about is not None

    @property
    def outstanding(self) -> int:
        """How many requests it has that are not answered."""
        return sum(len(left) for left, _ in self._chunks)

    @property
    def wants(self) -> bool:
        """Whether it should have another chunk, lest it wait for one."""
        return self.ready and sum(len(left) == size for left, size in self._chunks) < AT_HAND

    def turn_to(self, run: int, opened: Opened | None = None) -> None:
        """What follows is a run of its own."""
        self.run, self.at, self.finishing = run, opened, False

    def through(self) -> None:
        """It is at nothing any more."""
        self.run, self.at, self.finishing = None, None, False

    def hand(self, requests: tuple[Request, ...]) -> None:
        """Give it a chunk.  Raises whatever pickling does."""
        assert self.run is not None
        self.send(Chunk(self.run, requests))
        self._chunks.append(({request.id: request for request in requests}, len(requests)))

    def answered(self, name: str, memory: int) -> None:
        """A request has its response."""
        self.memory = memory
        for left, _ in self._chunks:
            if left.pop(name, None) is not None:
                break
        self._chunks = [(left, size) for left, size in self._chunks if left]

    def take_back(self) -> tuple[list[Request], list[Request]]:
        """What it has not answered: of the chunk that it was at, and of those after it."""
        begun, *untouched = [list(left.values()) for left, _ in self._chunks] or [[]]
        self._chunks = []
        return begun, [request for left in untouched for request in left]
