"""``score``, ``rescore`` and ``report``, killed at random moments: the same command again gives the same as ever."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..processes import Forked, drawn_moments
from ..run_folders import compared, state_of, values_of

pytestmark = pytest.mark.slow

KILLS = 15
"""Of each command."""
EARLY = 0.4
"""The share of kills within the first second."""
SAMPLES, IMAGES = 4000, 40
SCORE = ("score", "-t", "mine.jsonl", "-p", "p.jsonl", "--name", "N")
RUN = Path("runs/N")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Questions about some images, and answers, of which two thirds are right."""
    for number in range(IMAGES):
        Image.new("RGB", (400, 300), (6 * number, 0, 90)).save(tmp_path / f"{number}.png")
    rows = [
        {"id": str(n), "image": f"{n % IMAGES}.png", "question": f"What is {n}?", "answers": ["red"]}
        for n in range(SAMPLES)
    ]
    texts = [{"id": str(n), "text": "red" if n % 3 else "blue"} for n in range(SAMPLES)]
    for name, lines in (("mine.jsonl", rows), ("p.jsonl", texts)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def scored(folder: Path) -> dict[str, Any]:
    """What is in a scored run: answers, per-sample scores, scores and leaderboard."""
    run = folder / RUN
    assert state_of(run) == "complete"
    assert not [path.name for path in run.iterdir() if path.name.startswith(".") and path.name != ".lock"]
    samples = [json.loads(line) for line in (run / "mine.own.scores.jsonl").read_text().splitlines()]
    return {
        "journals": compared(run), "samples": samples, "values": values_of(run),
        "leaderboard": (run / "leaderboard.csv").read_text(),
    }  # fmt: skip


def reported(folder: Path) -> dict[str, bytes]:
    """The files of a report, by name."""
    report = folder / RUN / "report"
    assert not list((folder / RUN).glob(".report*"))
    return {str(path.relative_to(report)): path.read_bytes() for path in sorted(report.rglob("*")) if path.is_file()}


def kill_and_repeat(command: tuple[str, ...], folder: Path, state: Callable[[Path], Any], clean: bool) -> None:
    """Kill ``command`` again and again; every other time, let it end, and compare ``state``.

    Args:
        clean: whether the run folder is removed after each end, so that the command begins anew.
    """
    draw = drawn_moments(command[0])
    began = time.monotonic()
    assert Forked(*command, cwd=folder).finish()[0] == 0
    whole, seconds = state(folder), time.monotonic() - began
    killed = 0
    while killed < KILLS:
        if clean and (folder / RUN).exists() and state_of_ended(folder / RUN):
            shutil.rmtree(folder / RUN)
        process = Forked(*command, cwd=folder)
        time.sleep(draw.uniform(0.0, min(1.0, seconds) if draw.random() < EARLY else 1.1 * seconds))
        with suppress(ProcessLookupError):
            process.kill()
        code, printed = process.finish()
        assert code in (0, -signal.SIGKILL), printed
        killed += code == -signal.SIGKILL
        if draw.random() < 0.5 or killed == KILLS:
            if clean and state_of_ended(folder / RUN):  # also if it was killed after it had written everything
                assert state(folder) == whole
                continue
            code, printed = Forked(*command, cwd=folder).finish()
            assert code == 0, printed
            assert state(folder) == whole


def state_of_ended(run: Path) -> bool:
    """Whether a run's manifest says that it ended."""
    return (run / "manifest.json").is_file() and state_of(run) == "complete"


def test_score_is_killed_and_repeated(folder: Path) -> None:
    kill_and_repeat(SCORE, folder, scored, clean=True)


def test_rescore_is_killed_and_repeated(folder: Path) -> None:
    assert Forked(*SCORE, cwd=folder).finish()[0] == 0
    kill_and_repeat(("rescore", str(RUN)), folder, scored, clean=False)


@pytest.mark.parametrize("single", [False, True], ids=["folder", "single file"])
def test_report_is_killed_and_repeated(folder: Path, single: bool) -> None:
    assert Forked(*SCORE, cwd=folder).finish()[0] == 0

    def state(folder: Path) -> Any:
        content = reported(folder) if not single else {"report": (folder / RUN / "report.html").read_bytes()}
        return {name: re.sub(rb"\d\d:\d\d(:\d\d)?", b"", value) for name, value in content.items()}

    kill_and_repeat(("report", str(RUN), *(("--single-file",) if single else ())), folder, state, clean=False)


def test_score_takes_only_its_own_unfinished_folder(folder: Path) -> None:
    """Another command's folder, or one that ended, is not taken."""
    assert Forked(*SCORE, cwd=folder).finish()[0] == 0
    code, printed = Forked(*SCORE, cwd=folder).finish()
    assert (code, "exists already" in printed) == (2, True), printed
    manifest = folder / RUN / "manifest.json"
    content = json.loads(manifest.read_text())
    content.pop("checksum")
    manifest.write_text(json.dumps({**content, "state": "running"}))
    (folder / "p.jsonl").write_text((folder / "p.jsonl").read_text().replace("blue", "red"))
    code, printed = Forked(*SCORE, cwd=folder).finish()
    assert (code, "exists already" in printed) == (2, True), printed
