"""The run's side of one worker: its process, what was handed to it, and what became of it.

A worker is a bare interpreter that imports evalkit, not a copy of the run's process nor of its main module: a script
that calls evalkit needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from evalkit.types import Request

from ._workers_wire import Chunk, Link, Start

CODE = (
    "import json, sys; descriptor, sys.path[:] = json.loads(sys.argv[1]); "
    "from evalkit.model.backends._workers_process import main; main(descriptor)"
)
# How often a worker that died is started anew.
RESTARTS = 2
# Chunks of which no answer has come: the one that is being prepared while another is in work, and the next.
AT_HAND = 2
SECONDS_TO_END = 5.0


class Hand:
    """One worker.

    Args:
        name: what messages call it.
        threads: of its CPU work, unless the environment says otherwise.

    Attributes:
        about: its backend's description, once the checkpoint is loaded.
        rows: how many requests it answers together.
        memory: the bytes that it takes.
        gone: why it is not to be used any more.
        lost: why it said that it would end.
        run: what it is at; None where it has said that it is through.
    """

    def __init__(self, name: str, start: Start, threads: int) -> None:
        self.name = name
        self.start = start
        self.threads = threads
        self.restarts = 0
        self.gone: str | None = None
        self.rows = 1
        self.memory = 0
        self.begin()

    def begin(self) -> None:
        """Start the process, and have it load the checkpoint."""
        self.about: Mapping[str, Any] | None = None
        self.lost: str | None = None
        self.run: int | None = None
        self._chunks: list[tuple[dict[str, Request], int]] = []  # unanswered requests by id, and how many there were
        ours, theirs = socket.socketpair()
        given = json.dumps([theirs.fileno(), [path for path in sys.path if isinstance(path, str)]])
        environment = {"OMP_NUM_THREADS": str(self.threads), **os.environ}
        # Blocked signals stay blocked in what is started: Ctrl-C and a cluster's SIGTERM go to all processes of a
        # group, but how the run ends is for one of them to say. Workers see it by their socket.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, given],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.link = Link(Connection(ours.detach()))
        self.link.send(self.start)

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

    def hand(self, run: int, requests: tuple[Request, ...]) -> None:
        """Give it a chunk.  Raises whatever pickling does."""
        self.link.send(Chunk(run, requests))
        self.run = run
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

    def end(self) -> str:
        """End the process, wait for it, and say how it ended."""
        with suppress(OSError):
            self.link.close()
        try:
            code = self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.lost is not None:
            return self.lost
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as the system does when memory runs out"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
