"""Judges killed in mid-judgement: the same command resumes, asks for nothing twice, and gives the same score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..cli.judging import graded, mmvet_answers, prompt_of, replying, write_answers, write_mmvet
from ..conftest import HTTPServer
from ..processes import PAUSED, Forked
from ..run_folders import complete_lines, lines_of, runs_in, state_of, values_of

pytestmark = pytest.mark.slow

SAMPLES = 48
VERDICTS = "mmvet.test.verdicts.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_mmvet(tmp_path / "root", SAMPLES)
    write_answers(tmp_path, mmvet_answers(SAMPLES))
    return tmp_path


def verdicts_in(folder: Path) -> int:
    """How many verdicts the only run has on disk."""
    files = list(folder.glob(f"runs/*/{VERDICTS}"))
    return complete_lines(files[0]) if files else 0


def id_of(body: dict[str, Any]) -> str:
    """The id of the sample that a request to the judge is about."""
    return "v1_" + prompt_of(body).splitlines()[-1].split("?")[0].rpartition(" ")[2] + "#score"


def test_killed_server_judge_is_resumed(folder: Path, http_server: HTTPServer) -> None:
    http_server.replace = replying(graded)
    command = ("score", "-t", "mmvet", "-p", "mine.jsonl", "--data", "root", "--judge-base-url", http_server.url)
    assert Forked(*command, "--out", "whole", cwd=folder).finish()[0] == 0
    (whole,) = (folder / "whole").iterdir()
    for wanted in (5, 20, 33):
        http_server.seen.clear()
        recorded = {line["id"] for path in folder.glob(f"runs/*/{VERDICTS}") for line in lines_of(path)}

        def slowly(number: int, body: dict[str, Any], until: int = wanted) -> tuple[int, dict[str, Any]] | None:
            if verdicts_in(folder) >= until:
                http_server.ended.wait(2)  # the rest of the replies come after the kill
            return replying(graded)(number, body)

        http_server.replace = slowly
        process = Forked(*command, cwd=folder)
        process.wait_for(lambda: verdicts_in(folder) >= wanted)  # noqa: B023
        process.kill()
        assert process.finish()[0] == -9
        again = {id_of(body) for body in http_server.seen}
        assert not again & recorded
    recorded = {line["id"] for path in folder.glob(f"runs/*/{VERDICTS}") for line in lines_of(path)}
    http_server.seen.clear()
    http_server.replace = replying(graded)
    code, said = Forked(*command, cwd=folder).finish()
    assert code == 0, said
    assert f"{len(recorded):,} resumed" in said
    assert len(http_server.seen) == SAMPLES - len(recorded)
    (run,) = runs_in(folder)  # without --name, the same command finds its folder
    assert state_of(run) == "complete"
    assert values_of(run) == values_of(whole)
    ids = [line["id"] for line in lines_of(run / VERDICTS)]
    assert len(ids) == len(set(ids)) == SAMPLES


def test_killed_checkpoint_judge_is_resumed(folder: Path) -> None:
    """``tiny`` judged by another checkpoint through the same engine."""
    command = (
        "run", "-t", "mmvet", "--data", "root", "--judge", "tiny-early", "--max-new-tokens", "8", "--device", "cpu",
        "--batch-size", "4",
    )  # fmt: skip
    written = f"sum(open(path).read().count('\\n') for path in glob.glob('runs/*/{VERDICTS}'))"
    paused = "import glob\n" + PAUSED.replace("len(calls) > 5", f"{written} >= 6")
    process = Forked(*command, cwd=folder, before=paused)
    process.wait_for(lambda: verdicts_in(folder) >= 6)
    process.kill()
    assert process.finish()[0] == -9
    (run,) = runs_in(folder)
    before = (run / VERDICTS).read_bytes()
    answers = (run / "mmvet.test.jsonl").read_bytes()
    kept = complete_lines(run / VERDICTS)
    assert 6 <= kept < SAMPLES
    code, said = Forked(*command, cwd=folder).finish()
    assert "48 resumed" in said  # the answers
    (row,) = json.loads((run / "scores.json").read_text())["results"]
    asked = SAMPLES - row["unparsed"]
    assert f"{asked - kept} verdicts by tiny-early@" in said
    assert f"{kept} resumed" in said
    after = (run / VERDICTS).read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    assert (run / "mmvet.test.jsonl").read_bytes() == answers
    lines = lines_of(run / VERDICTS)
    assert len({line["id"] for line in lines}) == len(lines) == asked
    assert row["unjudged"] + row["n"] == SAMPLES
    assert code == (0 if row["value"] is not None else 1)
