"""Run folders and baselines that were changed at random: refused, or the same output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ..mutations import json_lines, json_value
from .accepted import EXPECTED, RUN, outputs, unchanged
from .harness import BOTH, Evalkit, Target, called, fuzz

SAMPLES, RIGHT = 12, 7
CHECK = ("check", RUN, "--baseline", "b.json", "--mode")
TOLERANCE, EXACT = (*CHECK, "tolerance"), (*CHECK, "exact")
BOARD, SHOW, REPORT, RESCORE = ("leaderboard", RUN, "--format", "csv"), ("show", RUN), ("report", RUN), ("rescore", RUN)
EXPORT = ("export", RUN, "--to", "csv", "--out", "export.csv")
COMPARE = ("compare", RUN, "runs/other", "--format", "csv")
SCORES, SAMPLE_SCORES, JOURNAL = f"{RUN}/scores.json", f"{RUN}/mine.own.scores.jsonl", f"{RUN}/mine.own.jsonl"
TARGETS = {
    "scores": Target(SCORES, json_value, (BOARD, REPORT, TOLERANCE, EXPORT, COMPARE), 350, unchanged),
    "per-sample scores": Target(SAMPLE_SCORES, json_lines, (TOLERANCE, SHOW, COMPARE, BOARD), 300, unchanged),
    "journal": Target(JOURNAL, json_lines, (EXACT, RESCORE, BOARD, SHOW, EXPORT, COMPARE), 350, unchanged),
    "manifest": Target(f"{RUN}/manifest.json", json_value, (RESCORE, EXACT, EXPORT, BOARD, COMPARE), 300, unchanged),
    "baseline": Target("b.json", json_value, (TOLERANCE, EXACT), 200, unchanged),
}


@pytest.fixture(scope="module")
def made(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs and a baseline, and what commands show of them."""
    folder = tmp_path_factory.mktemp("stored") / "made"
    folder.mkdir()
    Image.new("RGB", (56, 56)).save(folder / "0.png")
    rows = [{"id": str(i), "image": "0.png", "question": f"What is {i}?", "answers": ["red"]} for i in range(SAMPLES)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, right in (("R", RIGHT), ("other", RIGHT - 2)):
        texts = [{"id": str(i), "text": "red" if i < right else "blue"} for i in range(SAMPLES)]
        (folder / "p.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
        called(evalkit, "score", "-t", "mine.jsonl", "-p", "p.jsonl", "--name", name, cwd=folder)
    called(evalkit, "baseline", RUN, "--out", "b.json", cwd=folder)
    copy = shutil.copytree(folder, folder.with_name("copy"))
    expected = {}
    for command in {command for target in TARGETS.values() for command in target.commands}:
        done = called(evalkit, *command, cwd=copy)
        assert done.returncode == 0, done.stderr
        expected[" ".join(command)] = outputs(copy, command, done.stdout)
    (folder / EXPECTED).write_text(json.dumps(expected))
    return folder


@BOTH
@pytest.mark.parametrize("name", TARGETS)
def test_changed_file_is_refused_or_changes_nothing(
    evalkit: Evalkit, made: Path, tmp_path: Path, name: str, total: int
) -> None:
    fuzz(evalkit, made, tmp_path / "copy", name, TARGETS[name], total)
