"""Runs on videos: resuming, other sampling, changed and damaged files, with the bundled model and clips."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.data import bundled_root

from ..processes import PAUSED, Forked
from ..run_folders import complete_lines, lines_of, runs_in
from ..video.clips import write_clip

SEEN = 30.0
"""Points by which the bundled model is better with the frames of a clip than with those of another one."""
RUN = ("run", "-t", "videomme", "--data", "data", "--fps", "1", "--max-frames", "4")


@pytest.fixture
def evalkit(evalkit: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The command line, beside a copy of the bundled clips: (exit code, what it prints)."""
    shutil.copytree(bundled_root() / "videomme", tmp_path / "data" / "videomme")

    def call(*arguments: str) -> tuple[int, str]:
        done = evalkit(*arguments, cwd=tmp_path, EVALKIT_VIDEO_CACHE_GB="0")
        return done.returncode, " ".join((done.stderr + done.stdout).split())

    return call


def answered(tmp_path: Path) -> dict[str, dict[str, object]]:
    """The answers of the only run, by sample."""
    (run,) = runs_in(tmp_path)
    return {str(line["id"]): line for line in lines_of(run / "videomme.test.jsonl")}


def test_changed_videos_are_answered_again(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    code, said = evalkit(*RUN, "--limit", "6")
    assert code == 0, said
    before = answered(tmp_path)
    assert len(before) == 6
    names = {name for line in before.values() for name in line["videos"]}
    changed = sorted(names)[0]
    write_clip(Path(tmp_path, changed), 24, rate=8, size=(112, 112))
    hit = {key for key, line in before.items() if line["videos"] == [changed]}

    code, said = evalkit(*RUN, "--limit", "6")
    assert code == 0, said
    assert f"videomme/test: re-running {len(hit)} samples: video changed" in said
    after = answered(tmp_path)
    assert {key for key in before if after[key]["digests"] != before[key]["digests"]} == hit

    code, said = evalkit(*RUN[:-1], "2", "--limit", "6")
    assert code == 0, said
    assert len(runs_in(tmp_path)) == 2
    assert "sampling of videos: fps=1,max_frames=4 → fps=1,max_frames=2" in said


def test_killed_run_is_continued(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    """Killed between the answers to one video, the run goes on with the others, and gives what it would have given."""
    journal = tmp_path / "runs" / "x" / "videomme.test.jsonl"
    process = Forked(*RUN, "--name", "x", "--batch-size", "1", cwd=tmp_path, before=PAUSED)
    process.wait_for(lambda: complete_lines(journal) > 1)
    process.send_signal(signal.SIGKILL)
    process.finish()
    kept = complete_lines(journal)
    assert 1 < kept < 108
    code, said = evalkit(*RUN, "--name", "x")
    assert code == 0, said
    assert f"{108 - kept} answered" in said
    code, said = evalkit(*RUN, "--name", "y", "--fresh")
    assert code == 0, said

    def answers(name: str) -> dict[str, dict[str, object]]:
        lines = lines_of(tmp_path / "runs" / name / "videomme.test.jsonl")
        return {line["id"]: {k: v for k, v in line.items() if k not in ("sum", "seconds")} for line in lines}

    assert answers("x") == answers("y")


def test_damaged_videos(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    clips = sorted((tmp_path / "data" / "videomme" / "data").glob("*.mp4"))
    content = clips[0].read_bytes()
    clips[0].write_bytes(content[: len(content) // 2])
    clips[1].unlink()
    code, said = evalkit(*RUN)
    assert code == 2
    assert "(2 of " in said
    assert "videos are missing or unreadable); " in said
    assert "or give --allow-missing to evaluate the rest." in said
    assert not (tmp_path / "runs").exists()

    code, said = evalkit(*RUN, "--allow-missing")
    assert code == 1, said
    assert "Traceback" not in said
    failed = [line for line in answered(tmp_path).values() if line["finish"] == "error"]
    assert len({str(line["videos"]) for line in failed}) == 2
    assert {True, False} == {"is truncated: it has" in str(line["error"]) for line in failed}


def test_dry_run_shows_the_frames(evalkit: Callable[..., tuple[int, str]]) -> None:
    code, shown = evalkit(*RUN, "--limit", "1", "--dry-run")
    assert code == 0, shown
    assert "mp4: 4 frames from 0.0 to " in shown
    assert "s, resized to 112 × 112, by fps=1,max_frames=4" in shown


@pytest.mark.slow
def test_tiny_sees_what_happens_in_clips(tmp_path: Path, evalkit: Callable[..., tuple[int, str]]) -> None:
    """Its answers come from the clips: they are not guessed, and an early snapshot cannot give them."""

    def score(name: str, model: str) -> float:
        code, said = evalkit("run", "-t", "videomme", "--data", "data", "--model", model, "--name", name)
        assert code == 0, said
        (found,) = json.loads((tmp_path / "runs" / name / "scores.json").read_text())["results"]
        return float(found["value"])

    tiny, early = score("tiny", "tiny"), score("early", "tiny-early")
    clips = sorted((tmp_path / "data" / "videomme" / "data").glob("*.mp4"))
    contents = [clip.read_bytes() for clip in clips]
    for clip, content in zip(clips, [*contents[1:], contents[0]], strict=True):
        clip.write_bytes(content)
    blind = score("blind", "tiny")
    assert tiny > blind + SEEN
    assert tiny > early + SEEN
