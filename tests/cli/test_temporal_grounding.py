"""Custom tasks of the kind ``temporal_grounding``: from a file and answers to scores, by every rule; shown as times."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A custom task with three events in a video that is not there: no video is read to score answers."""
    rows = [{"id": str(n), "video": "a.mp4", "question": "the door opens", "span": [1, 2.5]} for n in (1, 2, 3)]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(evalkit: Call, own: Path, answers: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
    file = own.parent / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in answers.items()))
    out = ("--out", str(own.parent / "runs"), "--name", "mine")
    return evalkit("score", "--tasks", str(own), "-p", str(file), *out, *options, cwd=own.parent)


ANSWERS: dict[str, object] = {"1": "from <1.0 seconds> to <2.5 seconds>", "2": "00:01 - 00:04", "3": "never"}


@pytest.mark.parametrize(
    ("options", "value", "rule"),
    [
        ((), (100 + 50) / 3, "evalkit-span-1"),
        (("--family", "qwen3-vl"), (100 + 50) / 3, "evalkit-span-1"),
        (("--rule", "lmms-eval-span"), (0 + 50) / 3, "lmms-eval-span"),  # "<1.0 seconds> - <2.5 seconds>" is no range
    ],
)
def test_scores(evalkit: Call, own: Path, options: tuple[str, ...], value: float, rule: str) -> None:
    done = score(evalkit, own, ANSWERS, *options)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((own.parent / "runs" / "mine" / "scores.json").read_text())["results"]
    assert result["value"] == pytest.approx(value)
    assert f"times:{rule}|temporal_iou|" in result["signature"]


def test_show_report_export_and_rescore(evalkit: Call, own: Path) -> None:
    assert score(evalkit, own, ANSWERS).returncode == 0
    run = str(own.parent / "runs" / "mine")
    shown = evalkit("show", run, cwd=own.parent)
    assert shown.returncode == 0, shown.stderr
    assert "1 s to 2.5 s" in shown.stdout
    assert "1 s to 4 s" in shown.stdout
    assert "point" not in shown.stdout
    assert evalkit("report", run, "--out", str(own.parent / "report"), cwd=own.parent).returncode == 0
    done = evalkit("export", run, "--to", "csv", "--out", str(own.parent / "x"), cwd=own.parent)
    assert done.returncode == 0, done.stderr
    again = evalkit("rescore", run, "--rule", "evalkit-span-1,lmms-eval-span", cwd=own.parent)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rule", "official"), "there is no scoring rule 'official': there are evalkit-span-1, lmms-eval-span"),
        (("--family", "paligemma"), "the family paligemma has no prompt for events"),
    ],
)
def test_refusals(evalkit: Call, own: Path, options: tuple[str, ...], sentence: str) -> None:
    done = score(evalkit, own, ANSWERS, *options)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
