"""``evalkit run`` on a server that misbehaves in every way: no traceback, no hang, and the API key nowhere."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.model.server import sending

from .hostile_cases import CASES, LISTED
from .hostile_server import ANSWERED, ENDED, FAILED, KEY, Case, HostileServer

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

LONGEST_SECONDS = 90.0
KINDS: Mapping[bool, tuple[dict[str, Any], tuple[str, ...]]] = {
    False: ({"answers": ["red"]}, ()),
    True: ({"options": ["red", "blue"], "answer": "red"}, ("--choice", "loglikelihood")),
}
"""Fields of a question, and options, for questions whose options are not ranked, or are."""
READERS = (
    ("report", "runs/R", "--out", "report"), ("export", "runs/R", "--to", "parquet", "--out", "x.parquet"),
    ("export", "runs/R", "--to", "csv", "--out", "x.csv"), ("export", "runs/R", "--to", "hub", "--out", "hub"),
    ("leaderboard", "runs/R", "--format", "md", "--out", "board"), ("show", "runs/R"), ("rescore", "runs/R"),
)  # fmt: skip
TOGETHER = [name for name, case in CASES.items() if case.models is LISTED and case.result != ENDED]
"""Replies that concern one sample each, so that one run has all of them."""
ALONE = [name for name in CASES if name not in TOGETHER]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(sending, "LONGEST_WAIT", 0.05)


def run(
    evalkit: Evalkit, folder: Path, cases: Sequence[Case], *, ranked: bool
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """A run with a question for each case, and the lines of its journal in the order of the cases."""
    fields, options = KINDS[ranked]
    Image.new("RGB", (56, 56), (255, 0, 0)).save(folder / "0.png")
    rows = [{"id": str(n), "image": "0.png", "question": f"What is case {n}?", **fields} for n in range(len(cases))]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    began = time.monotonic()
    with HostileServer(*cases) as server:
        done = evalkit(
            "run", "--backend", "server", "--base-url", server.url, "--tasks", "q.jsonl", *options, "--name", "R",
            "--timeout", "1", "--patience", "2", "--concurrency", "4", "--family", "qwen2.5-vl", cwd=folder,
            EVALKIT_API_KEY=KEY,
        )  # fmt: skip
    assert time.monotonic() - began < LONGEST_SECONDS
    assert "Traceback" not in done.stderr
    journal = folder / "runs/R/q.own.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    return done, sorted(lines, key=lambda line: int(line["id"]))


def check_texts(folder: Path, *done: subprocess.CompletedProcess[str]) -> None:
    """The key is in no file and no output, and no output has control characters."""
    assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    for one in done:
        printed = one.stdout + one.stderr
        assert KEY not in printed
        assert not {"\x1b", "\x00", "\x9b", "\u202e"} & set(printed)


def check_line(name: str, line: Mapping[str, Any]) -> None:
    case = CASES[name]
    found = (name, line["finish"], line.get("error"), line["text"])
    if case.result == FAILED:
        assert line["finish"] == "error", found
        assert line["error"].startswith("the server"), found
    else:
        assert line["finish"] == "stop", found
        assert case.text in (None, line["text"]), found


@pytest.mark.parametrize("ranked", [False, True])
def test_each_odd_reply_concerns_its_sample_only(evalkit: Evalkit, tmp_path: Path, ranked: bool) -> None:
    names = [name for name in TOGETHER if CASES[name].ranked == ranked and not CASES[name].slow]
    done, lines = run(evalkit, tmp_path, [CASES[name] for name in names], ranked=ranked)
    assert done.returncode == 1, done.stderr
    for name, line in zip(names, lines, strict=True):
        check_line(name, line)
    readers = [evalkit(*command, cwd=tmp_path, EVALKIT_API_KEY=KEY) for command in READERS]
    for reader in readers:
        assert reader.returncode in (0, 1), (reader.args, reader.stderr)
        assert "Traceback" not in reader.stderr
    check_texts(tmp_path, done, *readers)


@pytest.mark.slow
def test_replies_without_end_concern_their_samples_only(evalkit: Evalkit, tmp_path: Path) -> None:
    names = [name for name in TOGETHER if CASES[name].slow]
    done, lines = run(evalkit, tmp_path, [CASES[name] for name in names], ranked=False)
    assert done.returncode == 1, done.stderr
    for name, line in zip(names, lines, strict=True):
        check_line(name, line)
    check_texts(tmp_path, done)


def check_alone(evalkit: Evalkit, folder: Path, name: str) -> None:
    case = CASES[name]
    done, lines = run(evalkit, folder, [case], ranked=case.ranked)
    if case.result == ENDED:
        assert done.returncode in (1, 2), done.stderr
        assert not lines
        assert done.stderr.splitlines()[-1].startswith(("error: ", "failed: ")), done.stderr
    else:
        assert case.result == ANSWERED
        assert done.returncode == 0, done.stderr
        check_line(name, lines[0])
    check_texts(folder, done)


@pytest.mark.parametrize("name", [name for name in ALONE if not CASES[name].slow])
def test_server_that_misbehaves(evalkit: Evalkit, tmp_path: Path, name: str) -> None:
    check_alone(evalkit, tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALONE if CASES[name].slow])
def test_server_that_takes_time_to_misbehave(evalkit: Evalkit, tmp_path: Path, name: str) -> None:
    check_alone(evalkit, tmp_path, name)
