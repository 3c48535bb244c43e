"""Real processes in tests: the command line in a fork of a process that has imported torch, and waiting for conditions.

The fork has its own signals, files and limits like any process, but need not import torch, which takes seconds.
Deadlines only end a test that hangs, so they are long: on a busy machine everything takes many times longer.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import chdir
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["evalkit.runner.execute", "evalkit.model.backends.hf", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl"]
)
# Not a function of this module: where tests are imported from, a child cannot import them.
PROGRAM = """
import os, resource, sys
os.chdir(cwd)
for name in [name for name in os.environ if name.startswith("EVALKIT_")]:
    del os.environ[name]
os.environ.update(environment)
into = os.open(err, os.O_WRONLY | os.O_APPEND)
os.dup2(into, 1)
os.dup2(into, 2)
sys.argv = ["evalkit", *arguments]
if largest is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
exec(before)
from evalkit.cli import main
main()
"""
# ``before`` of a run: after a few batches, it pauses until a file "go" exists, so that none ends before it is stopped.
PAUSED = """
import os, time
from evalkit.model.engine.model_runner import ModelRunner
unpaused = ModelRunner.prefill
calls = []
def paused(self, sequences, *more):
    calls.append(1)
    while len(calls) > 5 and not os.path.exists("go"):
        time.sleep(0.01)
    return unpaused(self, sequences, *more)
ModelRunner.prefill = paused
"""


class Forked:
    """A running ``evalkit`` command.

    Args:
        before: Python code that the process executes first.
        largest: the maximum size of its files, in bytes.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        before: str = "",
        largest: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        handle, self._err = tempfile.mkstemp()
        os.close(handle)
        values: dict[str, Any] = {
            "arguments": arguments, "cwd": str(cwd), "before": before, "largest": largest, "err": self._err,
            "environment": {"COLUMNS": "200", **(environment or {})},
        }  # fmt: skip
        with chdir("/"):  # where the server starts, it imports from: at the root of a checkout, not what is installed
            ensure_running()
        self._process = SERVER.Process(target=exec, args=(PROGRAM, values))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        """Wait until ``condition`` holds; the process must still be running until then."""

        def holds() -> bool:
            ended = self._process.exitcode is not None
            found = condition()
            assert found or not ended, f"exit code {self._process.exitcode}: {Path(self._err).read_text()}"
            return found

        wait_for(holds, seconds)

    def finish(self, timeout: float = 600) -> tuple[int, str]:
        """Wait for the end of the process; returns its exit code and its output."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            self.kill()
            self._process.join()
        said = Path(self._err).read_text(errors="replace")
        Path(self._err).unlink()
        assert code is not None, f"the process did not end: {said}"
        return code, " ".join(said.split())


def drawn_moments(test: str) -> random.Random:
    """The generator of a test's random moments; prints its seed, which ``$EVALKIT_TEST_SEED`` sets."""
    seed = os.environ.get("EVALKIT_TEST_SEED") or str(time.time_ns() % 1_000_000)
    print(f"{test}: EVALKIT_TEST_SEED={seed}")
    return random.Random(f"{test} {seed}")


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until ``condition`` holds; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The process ids of a process's children; none if it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
