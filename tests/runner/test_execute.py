"""A run from Python, through ``evalkit.runner``, without a terminal or the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path

import pytest
from evalkit.runner.execute import execute
from evalkit.settings import effective

rows = []
settings = effective({"tasks": ["vqav2"], "limit": 4, "name": "x", "device": "cpu"}, Path.cwd())
assert execute(settings, show=rows.extend) == 0
assert [row.row.n for row in rows] == [4]
assert "typer" not in sys.modules and "evalkit.cli" not in sys.modules
"""


def test_run_without_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "loaded in" not in done.stderr
    (row,) = json.loads((tmp_path / "runs" / "x" / "scores.json").read_text())["results"]
    assert (row["task"], row["n"], row["errors"]) == ("vqav2", 4, 0)
    assert json.loads((tmp_path / "runs" / "x" / "manifest.json").read_text())["state"] == "complete"


INTERRUPTED = """
import signal, sys
import evalkit.runner.{module} as module
from evalkit.cli import main

real = module.{name}

def interrupted(*arguments, **options):
    signal.raise_signal(signal.{signal})
    return real(*arguments, **options)

module.{name} = interrupted
sys.argv = ["evalkit", "run", "-t", "vqav2", "--limit", "4", "--device", "cpu", "--name", "x"]
main()
"""
STAGES = {
    "reading the models": ("execute", "resolve_models", "SIGINT", "Stopped at 0 samples."),
    "checking the weights": ("active_run", "identify_checkpoint", "SIGINT", "Stopped at 0 of 4 samples."),
    "writing the scores": ("active_run", "report_end", "SIGINT", "Stopped at 4 of 4 samples."),
    "preempted at the start": ("execute", "resolve_models", "SIGTERM", "Stopped at 0 samples."),
}


@pytest.mark.parametrize(("module", "name", "number", "sentence"), STAGES.values(), ids=STAGES)
def test_signal_outside_of_answers(tmp_path: Path, module: str, name: str, number: str, sentence: str) -> None:
    program = INTERRUPTED.format(module=module, name=name, signal=number)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert f"{sentence} Run the same command to resume." in done.stderr
    assert "Traceback" not in done.stderr
