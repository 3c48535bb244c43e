"""Custom tasks of the kind ``pointing``: from a file and answers to scores, in every coordinate convention."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Call = Callable[..., subprocess.CompletedProcess[str]]

BOX = [100, 40, 300, 80]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A custom task with two samples in an image of 1000 × 400 pixels."""
    Image.new("RGB", (1000, 400)).save(tmp_path / "a.png")
    rows = [{"evalkit": 1, "kind": "pointing"}]
    rows += [{"id": str(n), "image": "a.png", "question": "close", "box": BOX, "type": "icon"} for n in (1, 2)]
    path = tmp_path / "clicks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(evalkit: Call, own: Path, answers: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
    file = own.parent / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in answers.items()))
    out = ("--out", str(own.parent / "runs"), "--name", "mine")
    return evalkit("score", "--tasks", str(own), "-p", str(file), *out, *options, cwd=own.parent)


def result(own: Path) -> tuple[float, str]:
    row = json.loads((own.parent / "runs" / "mine" / "scores.json").read_text())["results"][0]
    return row["value"], row["signature"]


@pytest.mark.parametrize(
    ("options", "right", "wrong"),
    [
        (("--boxes", "pixels"), "(200, 60)", "(0.2, 0.15)"),
        (("--boxes", "0-1"), "(0.2, 0.15)", "(200, 60)"),
        (("--boxes", "0-1000"), "click(x=200, y=150)", "(200, 60)"),
        (("--boxes", "0-1000"), [200, 150], [100, 400]),
        (("--boxes", "0-1000"), "[100, 100, 300, 200]", "no"),
        (("--boxes", "0-1000", "--rule", "click-1"), "[200, 150]", "[100, 100, 300, 200]"),
        (("--family", "qwen3-vl"), '{"point_2d": [200, 150]}', '{"point_2d": [200, 60]}'),
        (("--rule", "seeclick"), "(0.2,0.15)", "checkbox (0.2,0.15)"),
        (("--rule", "vlmevalkit-point"), "x=200, y=60", "(200, 60)"),
    ],
)
def test_coordinates(evalkit: Call, own: Path, options: tuple[str, ...], right: object, wrong: object) -> None:
    done = score(evalkit, own, {"1": right, "2": wrong}, *options)
    assert done.returncode == 0, done.stderr
    value, signature = result(own)
    assert value == 50
    assert signature.startswith("points:") or "|points:" in signature


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "clicks asks for points, and a text alone does not say in which coordinates they are"),
        (("--boxes", "percent"), "--boxes percent: unknown"),
        (("--boxes", "0-1", "--rule", "seeclick"), "--boxes 0-1: the scoring rule seeclick of clicks has coordinates of its own"),
        (("--rule", "official"), "there is no scoring rule 'official': there are evalkit-point-1"),
    ],
)  # fmt: skip
def test_refusals(evalkit: Call, own: Path, options: tuple[str, ...], sentence: str) -> None:
    done = score(evalkit, own, {"1": "(1, 2)", "2": "(1, 2)"}, *options)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_show_report_export_and_rescore(evalkit: Call, own: Path) -> None:
    assert score(evalkit, own, {"1": "(200, 60)", "2": "none"}, "--boxes", "pixels").returncode == 0
    run = str(own.parent / "runs" / "mine")
    shown = evalkit("show", run, cwd=own.parent)
    assert shown.returncode == 0
    assert "point (200, 60)" in shown.stdout
    assert evalkit("report", run, "--out", str(own.parent / "report"), cwd=own.parent).returncode == 0
    done = evalkit("export", run, "--to", "csv", "--out", str(own.parent / "x"), cwd=own.parent)
    assert done.returncode == 0, done.stderr
    again = evalkit("rescore", run, "--rule", "click-1,box-centre-1", cwd=own.parent)
    assert again.returncode == 0, again.stderr
