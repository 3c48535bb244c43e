"""Runs that are killed and resumed, that share a folder, or whose images vanish: with real processes."""

from __future__ import annotations

import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from evalkit.data import bundled_root

from ..processes import PAUSED, Forked, drawn_moments
from ..run_folders import compared, complete_lines, lines_of, raw_lines, values_of

pytestmark = pytest.mark.slow

# Makes the real backend record the requests it is about to compute.
WATCHED = """
from evalkit.model.engine.model_runner import ModelRunner
prefill = ModelRunner.prefill
def watched(self, sequences, *more):
    with open("COMPUTED", "a") as file:
        file.write("".join(sequence.request.request.id + "\\n" for sequence in sequences))
    return prefill(self, sequences, *more)
ModelRunner.prefill = watched
"""
# Makes a run pause after it has decoded a few images until a file "go" exists.
PAUSED_READING = """
import os, time
from evalkit.images import PathImage
load = PathImage.load
loaded = []
def paused(self):
    loaded.append(1)
    while len(loaded) > 100 and not os.path.exists("go"):
        time.sleep(0.01)
    return load(self)
PathImage.load = paused
"""


def journal_bytes(run: Path) -> int:
    return sum(path.stat().st_size for path in run.glob("*.jsonl"))


def test_killed_twenty_times_and_resumed(tmp_path: Path) -> None:
    command = ("run", "-t", "vqav2,refcoco/val", "--data", "tiny", "--batch-size", "4", "--name", "x")
    (tmp_path / "whole").mkdir()
    assert Forked(*command, cwd=tmp_path / "whole").finish()[0] == 0
    draw = drawn_moments("run")
    run, computed = tmp_path / "runs" / "x", tmp_path / "computed"
    watched = WATCHED.replace("COMPUTED", str(computed))
    paused = watched + PAUSED
    before: dict[str, list[str]] = {}
    kills = 0
    while kills < 20:
        size = journal_bytes(run)
        process = Forked(*command, cwd=tmp_path, before=paused)
        # Some are killed at a random moment of the start, most soon after they have written something.
        if draw.random() < 0.4:
            time.sleep(draw.uniform(0.0, 1.0))
        else:
            process.wait_for(lambda size=size: journal_bytes(run) != size)
            time.sleep(draw.uniform(0.0, 0.15))
        with suppress(ProcessLookupError):
            process.kill()
        code, said = process.finish()
        kills += 1
        assert code == -signal.SIGKILL, f"the process ended by itself: {said}"
        now = raw_lines(run)
        for name, kept in before.items():
            assert set(kept) <= set(now.get(name, [])), "an answer was lost"
        before = now
    code, said = Forked(*command, cwd=tmp_path, before=watched).finish()
    assert code == 0, said
    assert compared(run) == compared(tmp_path / "whole" / "runs" / "x")
    assert values_of(run) == values_of(tmp_path / "whole" / "runs" / "x")
    answered = sum(len(rows) for rows in compared(run).values())
    assert answered == 324 + 128
    assert len(computed.read_text().splitlines()) - answered <= kills * 4, (
        "at most one batch per kill was computed twice"
    )


def test_two_concurrent_processes(tmp_path: Path) -> None:
    command = ("run", "-t", "vqav2,refcoco-all", "--data", "tiny", "--batch-size", "1", "--name", "x")
    first = Forked(*command, cwd=tmp_path, before=PAUSED)
    journal = tmp_path / "runs" / "x" / "vqav2.val.jsonl"
    first.wait_for(lambda: complete_lines(journal) > 0)
    code, said = Forked(*command, cwd=tmp_path).finish()
    kept = complete_lines(journal)
    (tmp_path / "go").touch()
    first.wait_for(lambda: complete_lines(journal) > kept)
    first.send_signal(signal.SIGINT)
    assert first.finish()[0] == 1, "the first was not affected"
    assert code == 2, said
    assert re.search(rf"evalkit, process {first.pid} on \S+, is working on this run; wait for it", said)
    assert len(lines_of(journal)) > 1


def test_images_deleted_during_a_run(tmp_path: Path) -> None:
    """As a network drive does; when it is back, the same command continues."""
    shutil.copytree(bundled_root(), tmp_path / "data")
    images = tmp_path / "data" / "coco" / "val2014"
    command = ("run", "-t", "vqav2", "-m", "tiny", "--data", "data", "--name", "x", "--batch-size", "1")
    process = Forked(*command, "--max-errors", "10", cwd=tmp_path, before=PAUSED_READING)
    journal = tmp_path / "runs" / "x" / "vqav2.val.jsonl"
    process.wait_for(lambda: complete_lines(journal) > 0)
    images.rename(tmp_path / "away")
    (tmp_path / "go").touch()
    code, said = process.finish()
    assert code == 1, said
    assert "11 samples failed (--max-errors 10; last error: FileNotFoundError" in said
    assert "Traceback" not in said
    (tmp_path / "away").rename(images)
    code, said = Forked(*command[:-1], "16", cwd=tmp_path).finish()
    assert code == 0, said
    assert "vqav2/val: re-running 11 samples: failed before" in said
    rows = lines_of(journal)
    assert len(rows) == len({row["id"] for row in rows}) == 324
    assert not any("error" in row for row in rows)
