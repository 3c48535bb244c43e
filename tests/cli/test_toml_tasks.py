"""Tasks in TOML on the command line: shown, scored, judged, resumed; a changed file is noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image

from ..conftest import HTTPServer
from .judging import prompt_of, replying

Evalkit = Callable[..., "CompletedProcess[str]"]
TASK = """kind = "vqa"
rows = "q.csv"
breakdowns = ["level"]
columns = { image = "file", question = "text", answers = "gold" }
"""
ROWS = "id,file,text,gold,level\n1,0.png,What color is it?,red,easy\n2,1.png,What color is it?,blue,hard\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (56, 56), colour).save(tmp_path / f"{number}.png")
    (tmp_path / "q.csv").write_text(ROWS)
    (tmp_path / "mine.toml").write_text(TASK)
    (tmp_path / "p.jsonl").write_text('{"id": "1", "text": "red"}\n{"id": "2", "text": "red"}\n')
    return tmp_path


def said(done: CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def row(folder: Path, name: str = "r") -> dict[str, Any]:
    (found,) = json.loads((folder / "runs" / name / "scores.json").read_text())["results"]
    return dict(found)


def test_samples_are_shown_as_a_family_is_asked_them(evalkit: Evalkit, folder: Path) -> None:
    done = evalkit("tasks", "mine.toml", "--family", "paligemma", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{folder}/0.png (56×56)" in done.stdout
    assert "⟨image⟩answer en What color is it?" in done.stdout
    assert "level      'easy'" in done.stdout
    (folder / "1.png").unlink()
    (folder / "mine.toml").write_text(TASK + 'prompts.all = "{q} Briefly."\n')
    done = evalkit("tasks", "mine.toml", cwd=folder)
    assert "1.png is missing" in done.stdout
    assert "⟨image⟩What color is it? Briefly." in done.stdout
    done = evalkit("tasks", "refcoco", "--family", "paligemma", cwd=folder)
    assert "prompt paligemma" in done.stdout
    assert "prompt generic" not in done.stdout
    done = evalkit("tasks", "q.csv", cwd=folder)
    assert done.returncode == 2
    assert 'say what its columns are in a file mine.toml, and give that: kind = "vqa", rows = "q.csv"' in said(done)


def test_suite_is_listed(evalkit: Evalkit, folder: Path) -> None:
    shutil.copy(folder / "mine.toml", folder / "other.toml")
    (folder / "mine.toml").write_text(TASK + 'groups = ["few"]\nabout = "colors"\n')
    done = evalkit("tasks", "./", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Suite ./: 2 tasks" in done.stdout
    assert "mine vqa exact_match colors" in said(done)
    assert "./few = mine" in done.stdout


def test_score_has_breakdowns_and_notices_changed_rows(evalkit: Evalkit, folder: Path) -> None:
    done = evalkit("score", "-t", "mine.toml", "-p", "p.jsonl", "--name", "r", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = row(folder)
    assert (found["value"], found["values"]["accuracy[level=easy]"], found["values"]["accuracy[level=hard]"]) == (
        50,
        100,
        0,
    )
    assert set(found["intervals"]) >= {"accuracy"}
    shown = evalkit("show", "runs/r", "--any", "2", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "What color is it?" in shown.stdout
    assert evalkit("rescore", "runs/r", cwd=folder).returncode == 0
    (folder / "q.csv").write_text(ROWS.replace("blue", "red"))
    assert "has changed since the run was made" in said(evalkit("show", "runs/r", "--any", "2", cwd=folder))


def test_judge_scores_by_rubric(evalkit: Evalkit, folder: Path, http_server: HTTPServer) -> None:
    rubric = 'judge = { scale = [1, 5], rubric = "Asked: {question}|Right: {references}|Said: {answer}|" }\n'
    (folder / "mine.toml").write_text(TASK + rubric)
    refused = evalkit("score", "-t", "mine.toml", "-p", "p.jsonl", "--name", "n", cwd=folder)
    assert refused.returncode == 2
    assert "scored by a judge" in said(refused)

    def grade(body: dict[str, Any]) -> str:
        right, answer = (part.partition(": ")[2] for part in prompt_of(body).split("|")[1:3])
        return "5" if right == answer else "2"

    http_server.replace = replying(grade)
    command = ("score", "-t", "mine.toml", "-p", "p.jsonl", "--name", "r", "--judge-base-url", http_server.url)
    done = evalkit(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = row(folder)
    assert found["value"] == pytest.approx((100 + 25) / 2)
    assert found["values"]["score[level=hard]"] == pytest.approx(25)
    assert "|judge-prompt:rubric-" in found["signature"]
    assert evalkit("leaderboard", "runs/r", cwd=folder).returncode == 0
    http_server.replace = replying(lambda body: "It deserves a 5.")
    done = evalkit(*(one.replace("r", "s") if one == "r" else one for one in command), cwd=folder)
    assert done.returncode == 1
    assert "none of 2 answers has a verdict" in said(done)


def test_run_resumes_and_notices_what_changed(evalkit: Evalkit, folder: Path) -> None:
    command = ("run", "--tasks", "mine.toml", "--model", "tiny", "--device", "cpu", "--name", "r")

    def run(*more: str) -> str:
        done = evalkit(*command, *more, cwd=folder)
        assert done.returncode == 0, done.stderr
        return said(done)

    assert "2 answered" in run()
    first = row(folder)["signature"]
    assert "0 answered" in run()
    (folder / "mine.toml").write_text("# a comment\n" + TASK)
    assert "0 answered" in run()
    assert row(folder)["signature"] == first
    (folder / "mine.toml").write_text(TASK + 'metric = "anls"\n')
    assert "0 answered" in run()
    assert "|anls|" in row(folder)["signature"]
    (folder / "mine.toml").write_text(TASK + 'prompts.all = "{q} One word."\n')
    assert "re-running 2 samples" in run()
    assert row(folder)["signature"].split("|")[2] != first.split("|")[2]
    (folder / "q.csv").write_text(ROWS.replace("1,0.png,What", "1,0.png,Which"))
    done = evalkit(*command, cwd=folder)
    assert done.returncode == 2
    assert "differs from this command (mine/own: annotations" in said(done)
    (folder / "q.csv").write_text(ROWS)
    (folder / "mine.toml").write_text(TASK + "decoding.max_new_tokens = 3\n")
    done = evalkit(*command, cwd=folder)
    assert done.returncode == 2
    assert "differs from this command (mine/own: decoding" in said(done)
