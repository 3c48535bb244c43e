"""A run from Python, through ``evalkit.runner``, without a terminal or the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from evalkit.runner.execute import execute
from evalkit.settings import effective

rows = []
settings = effective({"tasks": ["vqav2"], "limit": 4, "name": "x", "device": "cpu"}, Path.cwd())
assert execute(settings, show=rows.extend) == 0
assert [row.row.n for row in rows] == [4]
assert "typer" not in sys.modules and "evalkit.cli" not in sys.modules
"""


def test_run_without_a_terminal(tmp_path: Path) -> None:
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
