"""One server of a model: started, waited for, watched, and restarted when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Lock, Thread

from evalkit.errors import RunFailed, UserError

from .process import ServerProcess

log = logging.getLogger(__name__)

MAX_RESTARTS = 3
"""How often a server that has worked is restarted."""
MAX_PORTS = 5
"""How many ports are tried, if another process takes one before the server does."""
QUIET_SECONDS = 900.0
"""How long a server that starts may write nothing to its log: compiling kernels takes minutes."""
POLL_SECONDS = 0.25
SHOWN_LINES = 12
USAGE = 2
"""The exit code of a program that does not know an argument."""
TAKEN = ("address already in use", "errno 98")
MAX_LIST = 1 << 20
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ReplicaLost(Exception):
    """A server cannot be restarted."""


def free_port() -> int:
    """A port of this machine that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Replica:
    """A server.

    Args:
        label: in messages: ``vLLM 0.32.0, server 1 of 2``.
        command: returns the command and the environment for a port and the name under which the model is served.
        log_path: of its output.
        quiet_seconds: how long it may write nothing while it starts.

    Attributes:
        name: under which it offers the model; no other server on this machine has it, so that none is mistaken for it.
        restarts: how often it was restarted.
        failure: why it is no longer used; None if it is in use.
    """

    def __init__(
        self,
        label: str,
        model: str,
        command: Callable[[int, str], tuple[Sequence[str], dict[str, str]]],
        log_path: Path,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self.label = label
        self.name = f"{model}-{secrets.token_hex(4)}"
        self.port = free_port()
        self.log_path = log_path
        self.restarts = 0
        self.failure: str | None = None
        self.ready = False
        self.command: Sequence[str] = ()
        self._command_for = command
        self._quiet = quiet_seconds
        self._worked = False
        self._ports = 1
        self._process: ServerProcess | None = None
        self._lock = Lock()

    @property
    def url(self) -> str:
        """Its address, up to ``/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int | None:
        """The process id of its supervisor."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start its process, on another port if it was started before and did not get its own."""
        self.command, environment = self._command_for(self.port, self.name)
        self.ready = False
        self._process = ServerProcess(self.command, environment, self.log_path)

    def advance(self) -> None:
        """Find out what has happened to it, and restart it if it has died.

        Raises:
            UserError: it does not know an argument.
            RunFailed: it has died, or hung, before it was ready for the first time.
        """
        with self._lock:
            process = self._process
            if process is None or self.failure is not None:
                return
            code = process.code
            if code is None:
                if not self.ready and self._responds():
                    self.ready = self._worked = True
                elif not self.ready and process.quiet_seconds() > self._quiet:
                    process.end()
                    self._ended(f"no output for {self._quiet:g} s while it was starting")
                return
            process.end()
            taken = any(mark in " ".join(process.last_lines(SHOWN_LINES)).lower() for mark in TAKEN)
            if not self.ready and not self._worked and taken and self._ports < MAX_PORTS:
                log.info("%s: another process uses port %d; starting it on another", self.label, self.port)
                self._ports += 1
                self.port = free_port()
                self.start()
                return
            self._ended(process.how_it_ended(), code)

    def _ended(self, reason: str, code: int | None = None) -> None:
        """Restart a server that has ended, or give it up."""
        assert self._process is not None
        self.ready = False
        if self.failure is not None:  # it was told to end
            return
        lines = self._process.last_lines(SHOWN_LINES)
        last = f"; its last line: {lines[-1]}" if lines else ""
        if not self._worked:
            self.failure = f"{reason}{last}"
            for line in lines:
                log.warning("%s: %s", self.label, line)
            text = f"{self.label}: it did not start ({reason}{last}); its log is {self.log_path}"
            if code == USAGE:
                raise UserError(f"{text}. If that names an argument, correct --engine-arg.")
            raise RunFailed(f"{text}.")
        if self.restarts >= MAX_RESTARTS:
            self.failure = f"{reason}{last}, after {self.restarts} restarts"
            log.warning("%s: it died (%s%s); it is not restarted again", self.label, reason, last)
            return
        self.restarts += 1
        log.warning(
            "%s: it died (%s%s); restarting it (%d of %d)", self.label, reason, last, self.restarts, MAX_RESTARTS
        )
        self.start()

    def _responds(self) -> bool:
        """Whether the server is up, and is this one."""
        try:
            with _DIRECT.open(f"http://127.0.0.1:{self.port}/health", timeout=5):
                pass
            with _DIRECT.open(f"{self.url}/models", timeout=5) as reply:
                content = json.loads(reply.read(MAX_LIST))
            return any(entry.get("id") == self.name for entry in content["data"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def progress(self) -> str:
        """The last line of its output."""
        lines = [] if self._process is None else self._process.last_lines(1)
        return lines[-1] if lines else "starting"

    # --------------------------------------------------------------------------------- for the client, while it runs

    async def available(self, stop: Event | None) -> bool:
        """Wait until requests can be sent; returns whether that had to be waited for.

        Raises:
            ReplicaLost: it cannot be restarted.
        """
        waited = False
        while not self.ready:
            if self.failure is not None:
                raise ReplicaLost(f"{self.label}: {self.failure}")
            if stop is not None and stop.is_set():
                return waited
            waited = True
            await asyncio.sleep(POLL_SECONDS)
        return waited

    def unresponsive(self, seconds: float) -> bool:
        """End a server that has not answered for so long, so that it is restarted; returns whether it can be."""
        if self._process is None or self.failure is not None or self.restarts >= MAX_RESTARTS:
            return False
        log.warning("%s: no response for %.0f s", self.label, seconds)
        self.ready = False
        self._process.kill()
        return True

    def begin_to_end(self) -> None:
        """Have it end, without waiting for it."""
        self.failure = self.failure or "it was stopped"
        self.ready = False
        if self._process is not None:
            self._process.begin_to_end()

    def end(self) -> None:
        """Stop it."""
        self.begin_to_end()
        with self._lock:
            if self._process is not None:
                self._process.end()


class Fleet:
    """The servers of one model, watched by a thread until they are ended."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = replicas
        self._ended = Event()
        self._thread: Thread | None = None

    def start(self, title: str, report: Callable[[str], None], stop: Event | None) -> float:
        """Start all of them and wait until they are ready; returns the seconds that it took.

        Args:
            report: is called with a line on their progress.
            stop: once set, the start is abandoned.

        Raises:
            UserError, RunFailed: see ``Replica.advance``.
            KeyboardInterrupt: ``stop`` was set.
        """
        began = time.monotonic()
        try:
            for replica in self.replicas:
                replica.start()
            while not all(replica.ready for replica in self.replicas):
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt
                for replica in self.replicas:
                    replica.advance()
                waiting = [replica for replica in self.replicas if not replica.ready]
                if waiting:
                    up = len(self.replicas) - len(waiting)
                    of = f"{up} of {len(self.replicas)} servers ready: " if len(self.replicas) > 1 else ""
                    report(f"starting {title}: {of}{waiting[0].progress()}")
                    time.sleep(POLL_SECONDS)
        except BaseException:
            self.end()
            raise
        self._thread = Thread(target=self._watch, name="evalkit-servers", daemon=True)
        self._thread.start()
        return time.monotonic() - began

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            for replica in self.replicas:
                try:
                    replica.advance()
                except (UserError, RunFailed) as error:  # it cannot be started again, because of its log
                    replica.failure = str(error)
                    replica.ready = False

    def end(self) -> None:
        """Stop all servers, and wait until they are gone; later calls have no effect."""
        self._ended.set()
        for replica in self.replicas:
            replica.begin_to_end()
        for replica in self.replicas:
            replica.end()
