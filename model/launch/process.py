"""A server's process: its start under the supervisor, its log, and its end."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from evalkit.errors import UserError
from evalkit.plain_text import printable

from . import supervise

GRACE_SECONDS = 10.0
"""How long a server has to end by itself; a container is removed in this time."""
TAIL_BYTES = 1 << 16
LONGEST_LINE = 300
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
PRIVATE = ("EVALKIT_", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "VLLM_API_KEY")
"""Beginnings of environment variables that a server is not given: keys, one of which it would ask for itself."""


class ServerProcess:
    """A server in a process group of its own, which ends with this process, whatever happens to it.

    Args:
        log: the file that its output is appended to.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
        self.log = log
        self.began = time.monotonic()
        try:
            # No link: a received run folder must not make evalkit write elsewhere.
            file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"{log}: the server's log cannot be written ({error.strerror}).") from error
        try:
            os.write(file, f"$ {shlex.join(command)}\n".encode(errors="replace"))
            self._start = os.fstat(file).st_size
            self._process = subprocess.Popen(
                [
                    sys.executable, "-I", str(Path(supervise.__file__).resolve()), str(GRACE_SECONDS),
                    str(os.getpid()), *command,
                ],
                stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True,
                env={**inherited, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **environment},
            )  # fmt: skip
        finally:
            os.close(file)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The server's exit code, 128 plus the number for a signal; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def how_it_ended(self) -> str:
        """In a few words."""
        code = self.code or 0
        if code == 128 + signal.SIGKILL:
            return "killed by SIGKILL, as the system does when memory runs out"
        with suppress(ValueError):
            if code > 128:
                return f"killed by {signal.Signals(code - 128).name}"
        return f"exit code {code}"

    def quiet_seconds(self) -> float:
        """Seconds since it last wrote to its log, or started."""
        with suppress(OSError):
            return max(0.0, min(time.monotonic() - self.began, time.time() - self.log.stat().st_mtime))
        return time.monotonic() - self.began

    def last_lines(self, count: int) -> list[str]:
        """The last lines of its output, without control characters."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._start, size - TAIL_BYTES))
                text = file.read(TAIL_BYTES).decode(errors="replace")
        except OSError:
            return []
        lines = (printable(ESCAPES.sub("", line)).strip() for line in re.split(r"[\r\n]+", text))
        return [line[:LONGEST_LINE] for line in lines if line][-count:]

    def begin_to_end(self) -> None:
        """Have the server end, without waiting for it."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def end(self) -> None:
        """End the server, and wait until all of its processes are gone."""
        self.begin_to_end()
        try:
            self._process.wait(GRACE_SECONDS + supervise.KILL_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel then kills the server
            self._process.wait()

    def kill(self) -> None:
        """Kill a server that no longer responds; the supervisor ends when it is gone."""
        with suppress(OSError):
            os.kill(self._process.pid, signal.SIGTERM)
