"""Run one server, and end it with all of its processes: when told to, or when the process that started this is gone.

    python supervise.py SECONDS PARENT COMMAND ...

A program of its own, from the standard library only, so that it outlives a killed evalkit by the moment that it needs.
It ends when its standard input is closed or its parent is another process than PARENT; the server then has SECONDS to
end by itself.  Processes that the server leaves behind become children of this one, which kills them.  If this program
is killed, the kernel kills the server.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_SECONDS = 0.1
KILL_SECONDS = 5.0
NOT_STARTED = 127


def prctl(option: int, value: int) -> None:
    """Call Linux's ``prctl``; elsewhere, closing standard input alone ends the server."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def prepared() -> None:
    """In the server's process, before it becomes the server: it does not outlive the supervisor."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def descendants() -> list[int]:
    """The ids of all processes below this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH208, PTH112 (no imports needed)
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


class Supervised:
    """A running server.

    Attributes:
        code: its exit code, 128 plus the number for a signal; None while it runs.
    """

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=prepared)
        self.code: int | None = None

    def reap(self) -> None:
        """Collect the exit codes of the server and of processes that it left behind."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.process.pid:
                    code = os.waitstatus_to_exitcode(status)
                    self.code = self.process.returncode = code if code >= 0 else 128 - code

    def end(self, seconds: float) -> None:
        """Ask the server to end, and kill what is left of it after ``seconds``."""
        if self.code is None:
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGTERM)
            self.wait(lambda: self.code is not None, seconds)
        until = time.monotonic() + KILL_SECONDS
        while (left := descendants()) and time.monotonic() < until:
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS / 5)
            self.reap()

    def wait(self, ended: Callable[[], bool], seconds: float) -> None:
        """Wait until ``ended`` returns true, at most ``seconds``."""
        until = time.monotonic() + seconds
        self.reap()
        while not ended() and time.monotonic() < until:
            time.sleep(POLL_SECONDS / 2)
            self.reap()


def supervise(seconds: float, parent: int, command: list[str]) -> int:
    """Run ``command`` until it ends or is to be ended; returns its exit code."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: told.append(received))
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        server = Supervised(command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return NOT_STARTED
    while server.code is None and not told and os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], POLL_SECONDS)
        if readable and not os.read(0, 1):
            break
        server.reap()
    server.end(seconds)
    return 0 if server.code is None else server.code


if __name__ == "__main__":
    sys.exit(supervise(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
