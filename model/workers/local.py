"""Workers in processes of this machine.

A worker is a new interpreter that imports evalkit, not a copy of the main process or of its main module: a script that
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

from .handle import WorkerHandle
from .messages import Link, Start

CODE = (  # started with -P: nothing is imported from the current folder, unless the main process does so too
    "import json, sys; descriptor, sys.path[:] = json.loads(sys.argv[1]); "
    "from evalkit.model.workers.process import main; main(descriptor)"
)
SECONDS_TO_END = 5.0


class LocalHandle(WorkerHandle):
    """Handle of a worker process.

    Args:
        name: the worker's name in messages.
        device: the device of its model.
        threads: of its CPU work, unless ``OMP_NUM_THREADS`` is set.
    """

    def __init__(self, name: str, device: str, threads: int) -> None:
        super().__init__(name, device)
        self.threads = threads
        self.process: subprocess.Popen[bytes] | None = None

    def _launch(self, start: Start) -> None:
        ours, theirs = socket.socketpair()
        argument = json.dumps([theirs.fileno(), [path for path in sys.path if isinstance(path, str)]])
        environment = {"OMP_NUM_THREADS": str(self.threads), **os.environ}
        # A child inherits blocked signals. Ctrl-C and a cluster's SIGTERM go to all processes of a group, but the main
        # process decides how the run ends; workers see its end on their socket.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", CODE, argument],
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
        if self.exit_reason is not None:
            return self.exit_reason
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as the system does when memory runs out"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def disconnect(self) -> None:
        """Close the socket, which ends the worker; does not wait for it."""
        if self.process is not None:
            with suppress(OSError):
                self.link.close()


def wait_for_messages(handles: Sequence[WorkerHandle], seconds: float) -> list[WorkerHandle]:
    """The workers that have sent a message or died; waits up to ``seconds`` for the first."""
    by_connection = {handle.link.connection: handle for handle in handles if isinstance(handle, LocalHandle)}
    return [by_connection[connection] for connection in wait(list(by_connection), seconds)]  # type: ignore[index]


def close(handles: Sequence[WorkerHandle]) -> None:
    """End all workers; they exit in parallel."""
    for handle in handles:
        if isinstance(handle, LocalHandle):
            handle.disconnect()
    for handle in handles:
        handle.end()
