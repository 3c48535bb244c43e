"""A worker in a process of this machine.

It is a bare interpreter that imports evalkit, not a copy of the run's process nor of its main module: a script that
calls evalkit needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from .handle import Hand
from .messages import Link, Start

CODE = (
    "import json, sys; descriptor, sys.path[:] = json.loads(sys.argv[1]); "
    "from evalkit.model.workers.process import main; main(descriptor)"
)
SECONDS_TO_END = 5.0


class Local(Hand):
    """One worker.

    Args:
        name: what messages call it.
        device: where its model is.
        threads: of its CPU work, unless the environment says otherwise.
    """

    def __init__(self, name: str, device: str, threads: int) -> None:
        super().__init__(name, device)
        self.threads = threads
        self.process: subprocess.Popen[bytes] | None = None

    def _begin(self, start: Start) -> None:
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
        self.link.send(start)

    def send(self, message: object) -> bool:
        return self.link.send(message)

    def receive(self) -> Any:
        return self.link.receive()

    def end(self) -> str:
        if self.process is None:
            return "it was not started"
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

    def hang_up(self) -> None:
        """Have it end, without waiting for it."""
        if self.process is not None:
            with suppress(OSError):
                self.link.close()


def those_with_messages(hands: Sequence[Hand], seconds: float) -> list[Hand]:
    """The workers that have sent something, or died, within so many seconds."""
    by = {hand.link.connection: hand for hand in hands if isinstance(hand, Local)}
    return [by[connection] for connection in wait(list(by), seconds)]  # type: ignore[index]


def close(hands: Sequence[Hand]) -> None:
    """End all of them; each sees it at the same time."""
    for hand in hands:
        if isinstance(hand, Local):
            hand.hang_up()
    for hand in hands:
        hand.end()
