"""CharXiv needs a judge, whose JSON is read; one that gives none is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image

from ..conftest import HTTPServer
from .judging import prompt_of, replying

Evalkit = Callable[..., "CompletedProcess[str]"]
FIGURES = 4


@pytest.fixture
def charts(tmp_path: Path) -> Path:
    """A folder with reasoning questions about charts, and an answer to each."""
    folder = tmp_path / "root/charxiv/data"
    folder.mkdir(parents=True)
    images = tmp_path / "root/charxiv/images"
    images.mkdir()
    for number in range(FIGURES):
        Image.new("RGB", (28, 28)).save(images / f"{number}.jpg")
    keys = [str(n) for n in range(FIGURES)]
    place = {"num_subplots": 1, "subplot_loc": [0, 0], "qids": [1, 2, 3, 4], "answers": ["a", "b", "c", "d"]}
    (folder / "descriptive_val.json").write_text(json.dumps(dict.fromkeys(keys, place)))
    question = {"query": "Which?", "inst_category": 1, "qa_source": 1}
    (folder / "reasoning_val.json").write_text(
        json.dumps({key: {**question, "answer": f"curve {key}"} for key in keys})
    )
    (folder / "image_metadata_val.json").write_text(json.dumps({key: {"category": "cs", "year": "20"} for key in keys}))
    lines = [json.dumps({"id": key, "text": "It is curve 1."}) + "\n" for key in keys]
    (tmp_path / "mine.jsonl").write_text("".join(lines))
    return tmp_path


def graded(body: dict[str, Any]) -> str:
    """What an honest judge replies; to the last chart, no JSON."""
    lines = [line.strip() for line in prompt_of(body).splitlines()]
    truth, answer = (next(line for line in reversed(lines) if line.startswith(f"* {what}: ")) for what in WHAT)
    found = truth.removeprefix(f"* {WHAT[0]}: ") in answer
    return "I cannot say." if truth.endswith("3") else json.dumps({"extracted_answer": "x", "score": int(found)})


WHAT = ("Ground Truth", "Response")


def test_task_is_refused_without_judge(evalkit: Evalkit, charts: Path) -> None:
    done = evalkit(
        "run", "--model", "tiny", "-t", "charxiv_reasoning,charxiv_descriptive", "--data", "root", cwd=charts
    )
    assert done.returncode == 2
    said = " ".join((done.stdout + done.stderr).split())
    assert "charxiv_reasoning/val: its answers are scored by a judge (metric charxiv_reasoning)" in said


def test_verdicts_are_scored(evalkit: Evalkit, charts: Path, http_server: HTTPServer) -> None:
    http_server.replace = replying(graded)
    judge = ("--judge-base-url", http_server.url)
    done = evalkit(
        "score", "-t", "charxiv_reasoning", "-p", "mine.jsonl", "--data", "root", "--name", "r", *judge, cwd=charts
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((charts / "runs/r/scores.json").read_text())["results"]
    assert found["value"] == pytest.approx(100 / 3)
    assert found["unjudged"] == 1
    assert "|judge-prompt:charxiv-reasoning-1:0-1|v1|" in found["signature"]
    assert len(http_server.seen) == FIGURES
