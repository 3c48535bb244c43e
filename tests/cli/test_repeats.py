"""``--repeats``: several answers to each sample, from the command line."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..processes import PAUSED, Forked
from ..run_folders import complete_lines, lines_of, raw_lines

Call = Callable[..., subprocess.CompletedProcess[str]]
DRAWN = ("run", "-t", "scienceqa_img", "--data", "tiny", "--temperature", "1.5", "--limit", "12", "--name", "x")
JOURNAL = Path("runs") / "x" / "scienceqa_img.test.jsonl"


def answers(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The answers of the run x, without what differs between two runs."""
    return {
        (line["id"], line.get("repeat", 1)): {k: v for k, v in line.items() if k not in ("sum", "seconds")}
        for line in lines_of(folder / JOURNAL)
    }


def row(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "x" / "scores.json").read_text())["results"][0]
    return found


@pytest.fixture(scope="module")
def four(evalkit: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of four answers to each sample."""
    folder = tmp_path_factory.mktemp("four")
    done = evalkit(*DRAWN, "--repeats", "4", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_answers_do_not_depend_on_batching_and_order(four: Path, evalkit: Call, tmp_path: Path) -> None:
    assert len(answers(four)) == 48
    assert evalkit(*DRAWN, "--repeats", "4", "--batch-size", "5", cwd=tmp_path).returncode == 0
    assert answers(tmp_path) == answers(four)
    drawn = {line["text"] for (sample, _), line in answers(four).items() if sample == row_with_spread(four)}
    assert len(drawn) > 1


def row_with_spread(folder: Path) -> str:
    """A sample whose answers differ."""
    texts: dict[str, set[str]] = {}
    for (sample, _), line in answers(folder).items():
        texts.setdefault(sample, set()).add(line["text"])
    return max(texts, key=lambda sample: len(texts[sample]))


def test_run_without_repeats_is_continued(four: Path, evalkit: Call, tmp_path: Path) -> None:
    assert evalkit(*DRAWN, cwd=tmp_path).returncode == 0
    once = raw_lines(tmp_path / "runs" / "x")[JOURNAL.name]
    assert len(once) == 12
    assert not any("repeat" in json.loads(line) for line in once)
    assert "repeats" not in row(tmp_path)
    done = evalkit(*DRAWN, "--repeats", "4", cwd=tmp_path)
    assert "36 answered" in done.stderr
    assert ", 12 resumed" in done.stderr
    assert answers(tmp_path) == answers(four)
    assert row(tmp_path)["value"] == row(four)["value"]


def test_fewer_repeats_use_the_first_ones(four: Path, evalkit: Call, tmp_path: Path) -> None:
    assert evalkit(*DRAWN, "--repeats", "2", cwd=tmp_path).returncode == 0
    two = row(tmp_path)
    assert evalkit(*DRAWN, "--repeats", "4", cwd=tmp_path).returncode == 0
    done = evalkit(*DRAWN, "--repeats", "2", cwd=tmp_path)
    said = " ".join(done.stderr.split())
    assert "scienceqa_img/test: the run has 4 answers to a sample; the first 2 are scored (--repeats)" in said
    assert "0 answered" in said
    assert (row(tmp_path)["value"], row(tmp_path)["repeats"]) == (two["value"], two["repeats"])
    assert answers(tmp_path) == answers(four)  # nothing is thrown away
    done = evalkit("rescore", "runs/x", cwd=tmp_path)
    assert "scienceqa_img/test: unchanged" in done.stderr, done.stderr


def test_killed_run_is_continued(four: Path, evalkit: Call, tmp_path: Path) -> None:
    process = Forked(*DRAWN, "--repeats", "4", "--batch-size", "3", cwd=tmp_path, before=PAUSED)
    process.wait_for(lambda: complete_lines(tmp_path / JOURNAL) > 0)
    process.send_signal(signal.SIGKILL)
    process.finish()
    kept = complete_lines(tmp_path / JOURNAL)
    assert 0 < kept < 48
    done = evalkit(*DRAWN, "--repeats", "4", cwd=tmp_path)
    assert f"{48 - kept} answered" in done.stderr
    assert answers(tmp_path) == answers(four)
    assert row(tmp_path)["value"] == row(four)["value"]


def test_score_has_its_parts(four: Path, evalkit: Call) -> None:
    found = row(four)
    assert len(found["repeats"]) == 4
    assert found["value"] == pytest.approx(sum(found["repeats"]) / 4)
    assert {"pass@1", "pass@2", "pass@4", "maj@4", "repeat_sd"} <= found["values"].keys()
    assert {"pass@1", "pass@2", "pass@4", "maj@4"} <= found["intervals"].keys()
    assert "|repeats:4|n:12" in found["signature"]
    board = evalkit("leaderboard", "runs", cwd=four).stdout
    assert "mean of 4 repeats" in board
    assert "pass@4" in board
    (line,) = csv.DictReader(evalkit("leaderboard", "runs", "--format", "csv", cwd=four).stdout.splitlines())
    assert line["repeats"] == "4"


def test_show_and_exports_have_every_answer(four: Path, evalkit: Call) -> None:
    sample = row_with_spread(four)
    shown = evalkit("show", "runs/x", "--id", sample, cwd=four).stdout
    assert " of 4 " in shown
    assert "  mean " in shown
    records = json.loads(evalkit("show", "runs/x", "--id", sample, "--format", "json", cwd=four).stdout)
    assert [record["repeat"] for record in records] == [1, 2, 3, 4]
    assert [record["text"] for record in records] == [answers(four)[sample, at]["text"] for at in (1, 2, 3, 4)]
    assert evalkit("export", "runs/x", "--to", "csv", "--out", "all.csv", cwd=four).returncode == 0
    assert len(list(csv.DictReader((four / "all.csv").open()))) == 48
    assert evalkit("report", "runs/x", "--out", "report", cwd=four).returncode == 0
    (data,) = (four / "report" / "data").iterdir()
    assert data.read_text().count('"repeats"') == 12


def test_compare_and_check(four: Path, evalkit: Call, tmp_path: Path) -> None:
    other = (*DRAWN[:-2], "--name", "y", "--seed", "1", "--out", str(tmp_path / "runs"))
    assert evalkit(*other, cwd=four).returncode == 0
    done = evalkit("compare", str(four / "runs" / "x"), str(tmp_path / "runs" / "y"), "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert evalkit("baseline", "runs/x", "--out", "base.json", cwd=four).returncode == 0
    samples = json.loads((four / "base.json").read_text())["tasks"]["scienceqa_img/test"]["samples"]
    assert all(len(sample[4]) == 4 for sample in samples)
    done = evalkit("check", "runs/x", "--baseline", "base.json", "--mode", "exact", cwd=four)
    assert done.returncode == 0, done.stdout


def test_journal_and_files_with_several_answers_are_scored_alike(four: Path, evalkit: Call, tmp_path: Path) -> None:
    lines = lines_of(four / JOURNAL)
    rows = [{"id": one["id"], "text": one["text"], "repeat": one.get("repeat", 1)} for one in reversed(lines)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    lists: dict[str, list[str]] = {}
    for (sample, _), line in sorted(answers(four).items(), key=lambda item: item[0][1]):
        lists.setdefault(sample, []).append(line["text"])
    (tmp_path / "lists.jsonl").write_text(
        "".join(json.dumps({"id": sample, "text": texts}) + "\n" for sample, texts in lists.items())
    )
    found = []
    for place, file in enumerate(("rows.jsonl", "lists.jsonl", str(four / JOURNAL))):
        folder = tmp_path / str(place)
        command = ("score", "-t", "scienceqa_img", "--predictions", file, "--data", "tiny", "--family", "qwen2.5-vl")
        done = evalkit(*command, "--skip-missing", "--name", "x", "--out", str(folder / "runs"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append({key: row(folder)[key] for key in ("value", "repeats", "values", "n", "unparsed")})
    assert found[0] == found[1] == found[2]
    assert found[0]["repeats"] == row(four)["repeats"]
    assert evalkit("rescore", str(folder / "runs" / "x"), cwd=tmp_path).returncode == 0
    assert row(folder)["repeats"] == found[0]["repeats"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "1", "text": ["a", "b"]}, {"id": "2", "text": "a"}], "some samples have 2 answers, and 1 sample has fewer"),
        ([{"id": "1", "text": "a", "repeat": 1}] * 2, "number its answers in the field repeat"),
        ([{"id": "1", "text": "a", "repeat": "first"}], "repeat is 'first'; expected an integer, such as 1"),
        ([{"id": "1", "text": ["a"], "repeat": 1}], "it has a list of answers and a number in repeat"),
        ([{"id": "1", "text": ["a", None]}], "text is None; expected a text or a number"),
    ],
)  # fmt: skip
def test_files_that_do_not_say_which_answer_is_which(
    evalkit: Call, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    done = evalkit("score", "-t", "scienceqa_img", "--data", "tiny", "--predictions", "p.jsonl", "--allow-missing",
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--repeats", "8"), "--repeats 8: greedy decoding gives the same answer each time; add --temperature 0.7"),
        (("--repeats", "0", "--temperature", "1"), "--repeats 0: give at least 1"),
        (
            ("--repeats", "2", "--temperature", "1", "--choice", "loglikelihood"),
            "scienceqa_img/test: --repeats: ranking options by log-likelihood gives the same letter each time",
        ),
    ],
)
def test_repeats_without_effect_are_refused(
    evalkit: Call, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = evalkit("run", "-t", "scienceqa_img", "--data", "tiny", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())


def test_dry_run_says_how_many_answers(evalkit: Call, tmp_path: Path) -> None:
    done = evalkit(*DRAWN[:-2], "--repeats", "3", "--dry-run", cwd=tmp_path)
    assert "12 samples, 3 answers each" in done.stdout
