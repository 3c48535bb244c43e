"""The command line in processes of its own that are ready at once: forked from one that has imported torch already.

What a test needs of a real process (signals, its own files and limits) is there; what takes seconds each time is not.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Mapping
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


class Forked:
    """A command that runs.

    Args:
        before: what its process executes first.
        largest: how many bytes a file of it can have.
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

    def finish(self, timeout: float = 120) -> tuple[int, str]:
        """(exit code, what it said), when it has ended."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            self.kill()
            self._process.join()
        said = Path(self._err).read_text(errors="replace")
        Path(self._err).unlink()
        assert code is not None, f"it did not end: {said}"
        return code, " ".join(said.split())
