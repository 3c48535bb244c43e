"""Stored files and inputs that were changed at random: a sentence, or the same score, never a traceback.

The changes are the same in every run.  A command may refuse a changed file (exit code 1 or 2).  If it succeeds, its score is
the one from before; a changed file of questions or answers may also be another valid one, whose score is computed here
once more.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

Evalkit = Callable[..., subprocess.CompletedProcess[str]]

SAMPLES, RIGHT = 12, 7
QUICK, SLOW = 300, 5000
LONGEST_SECONDS = 60.0
VALUES = ("NaN", "Infinity", "1e999", "-1", "null", "true", '""', '"NaN"', "[]", "{}", "9" * 400, "[" * 5000, "0")
RUN = "runs/R"
CHECK = ("check", RUN, "--baseline", "b.json", "--mode")
SCORE = ("score", "-t", "mine.jsonl", "-p", "p.jsonl", "--name", "N")
TARGETS = {
    "scores.json": (f"{RUN}/scores.json", [("leaderboard", RUN, "--format", "csv"), ("report", RUN), (*CHECK, "tolerance")]),
    "per-sample scores": (f"{RUN}/mine.own.scores.jsonl", [(*CHECK, "tolerance"), ("show", RUN)]),
    "journal": (f"{RUN}/mine.own.jsonl", [(*CHECK, "exact"), ("rescore", RUN), ("leaderboard", RUN, "--format", "csv")]),
    "manifest": (f"{RUN}/manifest.json", [("rescore", RUN), (*CHECK, "exact"), ("export", RUN, "--to", "csv")]),
    "baseline": ("b.json", [(*CHECK, "tolerance"), (*CHECK, "exact")]),
    "own data": ("mine.jsonl", [SCORE]),
    "predictions": ("p.jsonl", [SCORE]),
    "settings": ("evalkit.toml", [SCORE]),
}  # fmt: skip
"""The file, and commands that read it."""


@pytest.fixture(scope="module")
def made(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    Image.new("RGB", (56, 56)).save(folder / "0.png")
    rows = [{"id": str(i), "image": "0.png", "question": f"What is {i}?", "answers": ["red"]} for i in range(SAMPLES)]
    texts = [{"id": str(i), "text": "red" if i < RIGHT else "blue"} for i in range(SAMPLES)]
    for name, lines in (("mine.jsonl", rows), ("p.jsonl", texts)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "evalkit.toml").write_text('out = "runs"\nseed = 3\nallow_missing = false\n')
    for command in ((*SCORE[:-1], "R"), ("baseline", RUN, "--out", "b.json")):
        done = evalkit(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def changed(content: bytes, random: Random) -> bytes:
    """``content`` with one change: of bits, bytes, spans, lines or values."""
    at, length = random.randrange(len(content)), random.randint(1, 40)
    lines = content.splitlines(keepends=True)
    kind = random.randrange(9)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at] + content[at + length :]
    if kind == 2:
        return content[:at] + content[at : at + length] + content[at:]
    if kind == 3:
        return content[:at]
    if kind == 4:
        return content[:at] + random.randbytes(random.randint(1, 4)) + content[at:]
    if kind == 5:
        lines.pop(random.randrange(len(lines)))
    elif kind == 6:
        lines.insert(random.randrange(len(lines)), random.choice(lines))
    elif kind == 7:
        random.shuffle(lines)
    else:  # a value
        starts = [place for place, byte in enumerate(content) if byte in b":[," and place + 1 < len(content)]
        start = random.choice(starts) + 1 if starts else at
        end = next((place for place in range(start, len(content)) if content[place] in b",}]\n"), len(content))
        return content[:start] + random.choice(VALUES).encode() + content[end:]
    return b"".join(lines)


def expected(folder: Path) -> float:
    """The score of the questions and answers in ``folder``, computed as simply as the formats allow."""
    questions: dict[str, Any] = {}
    for line in (folder / "mine.jsonl").read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.strip():
            row = json.loads(line)
            questions[str(row["id"])] = [answer.strip().lower() for answer in row["answers"]]
    answers: dict[str, str] = {}
    for line in (folder / "p.jsonl").read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.strip():
            row = json.loads(line)
            answers[str(row["id"])] = str(row["text"]).strip().lower()  # numbers are read as they are spelled
    return 100 * sum(answers[key] in right for key, right in questions.items()) / len(questions)


def scores_of(folder: Path, name: str) -> Iterator[float]:
    """The score in the run's leaderboard and that in scores.json."""
    with (folder / "runs" / name / "leaderboard.csv").open(newline="") as file:
        yield from (float(row["value"]) for row in csv.DictReader(file))
    yield from (row["value"] for row in json.loads((folder / "runs" / name / "scores.json").read_text())["results"])


def check_mutations(evalkit: Evalkit, made: Path, folder: Path, target: str, count: int) -> None:
    file, commands = TARGETS[target]
    whole = (made / file).read_bytes()
    random = Random(target)
    before = 100 * RIGHT / SAMPLES
    for number in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        content = changed(whole, random)
        (folder / file).write_bytes(content)
        command = commands[number % len(commands)]
        began = time.monotonic()
        done = evalkit(*command, cwd=folder)  # what escapes it, as a traceback would, fails the test
        what = (number, command, content, done)
        assert time.monotonic() - began < LONGEST_SECONDS, what
        assert done.returncode in (0, 1, 2), what
        assert "Traceback" not in done.stderr, what
        if done.returncode != 0:
            assert done.stderr or command[0] == "check", what
        elif command[0] == "score":
            out = folder if (folder / "runs" / "N").is_dir() else None
            if out is not None:  # a changed "out" is another folder
                for value in scores_of(out, "N"):
                    assert value == pytest.approx(expected(folder)), what
        elif command[0] == "rescore":
            assert all(value == pytest.approx(before) for value in scores_of(folder, "R")), what
        elif command[0] == "leaderboard":
            (row,) = csv.DictReader(io.StringIO(done.stdout))
            assert (float(row["value"]), row["n"], row["errors"]) == (pytest.approx(before), str(SAMPLES), "0"), what
        elif command[0] == "check":
            assert f"{before:.2f}  {before:.2f}" in done.stdout, what


@pytest.mark.parametrize("target", TARGETS)
def test_changed_file_is_refused_or_changes_nothing(evalkit: Evalkit, made: Path, tmp_path: Path, target: str) -> None:
    check_mutations(evalkit, made, tmp_path / "copy", target, QUICK // len(TARGETS))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_many_changed_files_are_refused_or_change_nothing(
    evalkit: Evalkit, made: Path, tmp_path: Path, target: str
) -> None:
    check_mutations(evalkit, made, tmp_path / "copy", target, SLOW // len(TARGETS))
