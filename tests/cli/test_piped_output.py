"""Output that is not a terminal: no table and no sentence is wrapped."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import moved

COMMANDS = {
    "leaderboard runs": ("model", "vqav2/val", "refcoco/val", "scienceqa_img/test", "docvqa/val"),
    "leaderboard runs/a --published": ("model", "vqav2/val", "refcoco/val", "scienceqa_img/test", "docvqa/val"),
    "leaderboard runs/a": ("task", "split", "metric", "a", "n", "unparsed", "truncated", "errors"),
    "rescore runs/a": ("task", "split", "metric", "a", "n", "unparsed", "truncated", "errors"),
    "compare runs/a runs/b": ("task", "A", "B", "B − A", "p", "Holm", "verdict"),
    "check runs/b --baseline baseline.json": ("task", "baseline", "run", "difference", "p worse", "changed"),
    "tasks": ("vqav2", "vqa_accuracy", "val 214,354 + testdev, test, train"),
}
"""Commands, and the columns of their first table."""

SENTENCES = {
    "leaderboard runs": "Bold: the best of a column. ≈: within the 95 % error of the best, taken as independent; "
    "'evalkit compare' tests it sample by sample.",
    "compare runs/a runs/b": "detectable: the smallest true difference found with 80 % power in this many samples, "
    "after correction.",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_wrapped_without_terminal(
    command: str, two_runs: Path, tmp_path: Path, evalkit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    moved(two_runs, tmp_path)
    if command.startswith("check"):
        assert evalkit("baseline", "runs/b", cwd=tmp_path).returncode == 0
    lines = evalkit(*command.split(), cwd=tmp_path, COLUMNS="").stdout.splitlines()
    assert any(all(name in line for name in COMMANDS[command]) for line in lines), lines
    if command in SENTENCES:
        assert SENTENCES[command] in lines
