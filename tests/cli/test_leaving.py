"""The command ends at once where torch is loaded, and nothing is lost by that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEFORE = """
import atexit, logging, sys, threading, time, types
from evalkit.cli.leaving import leave
if {heavy}:
    sys.modules["torch"] = types.ModuleType("torch")

class AtTheEnd:
    def __del__(self):
        print("taken apart", flush=True)

kept = AtTheEnd()
atexit.register(print, "registered")
print("printed")
"""


def run(code: str, *, heavy: bool) -> subprocess.CompletedProcess[str]:
    program = BEFORE.format(heavy=heavy) + code
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_everything_is_written_and_what_is_registered_is_done(code: int) -> None:
    done = run(f"leave({code})", heavy=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "printed\nregistered\n", "")


def test_without_torch_the_interpreter_ends_as_usual() -> None:
    done = run("leave(3)", heavy=False)
    assert (done.returncode, done.stdout) == (3, "printed\nregistered\ntaken apart\n")


def test_a_thread_that_works_is_waited_for() -> None:
    code = "threading.Thread(target=lambda: (time.sleep(0.5), print('thread'))).start(); leave(0)"
    done = run(code, heavy=True)
    assert (done.returncode, done.stdout) == (0, "printed\nthread\nregistered\ntaken apart\n")


def test_a_closed_pipe_is_an_error() -> None:
    assert run("import os; os.close(1); leave(0)", heavy=True).returncode == 120


CALLER = """
import sys, types
sys.modules["torch"] = types.ModuleType("torch")
sys.argv = ["evalkit", "--version"]
{how}
"""
CALLED_BY_A_MODULE = """
PROGRAM = '''
from evalkit.cli import command
try:
    command()
except SystemExit as end:
    print("caught", end.code)
'''
exec(PROGRAM, vars(types.ModuleType("caller")))
print("goes on")
"""


def test_only_the_program_ends_the_process() -> None:
    def output(how: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", CALLER.format(how=how)], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.splitlines()[1:]

    assert output("from evalkit.cli import command\ncommand()\nprint('never')") == []
    assert output(CALLED_BY_A_MODULE) == ["caught 0", "goes on"]
