"""Folders whose names are not UTF-8: every command works in them, and their images reach reports and exports."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = (
    ("report", "{run}"), ("report", "{run}", "--single-file"), ("show", "{run}"), ("rescore", "{run}"),
    ("export", "{run}", "--to", "csv"), ("export", "{run}", "--to", "parquet"), ("leaderboard", "{run}", "--out", "{out}"),
    ("baseline", "{run}", "--out", "{out}.json"), ("check", "{run}", "--baseline", "{out}.json"),
    ("export", "{run}", "--to", "model-card"),
)  # fmt: skip


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / os.fsdecode(b"caf\xe9 \xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes only UTF-8")
    Image.new("RGB", (56, 56), "red").save(folder / "0.png")
    row = {"id": "0", "image": "0.png", "question": "the square", "box": [2, 2, 30, 30]}
    (folder / "mine.jsonl").write_text(json.dumps(row))
    (folder / "p.jsonl").write_text(json.dumps({"id": "0", "text": [2, 2, 30, 30]}))
    return folder


def test_commands_in_a_folder_without_a_utf8_name(evalkit: Evalkit, odd: Path) -> None:
    run = odd / "runs" / "R"
    command = ("score", "-t", str(odd / "mine.jsonl"), "-p", str(odd / "p.jsonl"), "--boxes", "pixels", "--name", "R")
    done = evalkit(*command, "--out", str(run.parent), cwd=odd.parent)
    assert done.returncode == 0, done.stderr
    for verb in COMMANDS:
        called = [part.format(run=run, out=odd / "out") for part in verb]
        done = evalkit(*called, cwd=odd.parent)
        assert done.returncode == 0, (verb, done.stderr)
    (image,) = (run / "report" / "images").iterdir()
    with Image.open(image) as shown:
        assert shown.size == (56, 56)
    assert base64.b64encode(image.read_bytes()).decode() in (run / "report.html").read_text()
