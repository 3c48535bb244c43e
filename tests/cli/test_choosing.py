"""``--where``, ``--ids`` and a percentage as ``--limit``, as a user gives them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.api import load_task
from evalkit.results.store.journal import read_journal
from evalkit.results.store.manifest import SCHEMA

from .test_rescore import contents

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def row_of(run: Path) -> dict[str, object]:
    (row,) = json.loads((run / "scores.json").read_text())["results"]
    return dict(row)


def split_of(run: Path) -> dict[str, object]:
    return dict(json.loads((run / "manifest.json").read_text())["splits"]["vqav2/val"])


def ids_in(run: Path) -> set[str]:
    return set(read_journal(run / "vqav2.val.jsonl", SCHEMA).lines)


def test_run_is_resumed_with_another_choice(evalkit: Evalkit, tmp_path: Path) -> None:
    yes_no = {s.id for s in load_task("vqav2/val", data="tiny") if s.meta["answer_type"] == "yes/no"}
    first = evalkit("run", "-t", "vqav2", "--where", 'answer_type == "yes/no"', "--limit", "10%", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "runs").iterdir()
    answered = ids_in(run)
    assert len(answered) == -(-len(yes_no) // 10)
    assert answered <= yes_no
    part = "--where 'answer_type == \"yes/no\"' --limit 10%"
    assert f"A subset ({part}) was run: compare only with the same subset." in said(first)
    assert f"{len(answered)} of 324 samples ({part})" in said(first)
    assert (row_of(run)["chosen"], row_of(run)["limited"], row_of(run)["n"]) == (part, True, len(answered))
    assert str(row_of(run)["signature"]).endswith(f"|n:{len(answered)}")
    assert split_of(run)["where"] == 'answer_type == "yes/no"'
    assert (split_of(run)["share"], split_of(run)["limit"]) == ("10%", len(answered))

    few, other = sorted(answered)[:2], next(s.id for s in load_task("vqav2/val", data="tiny") if s.id not in yes_no)
    (tmp_path / "hard.txt").write_text("\n".join([*few, other]) + "\n")
    second = evalkit("run", "-t", "vqav2", "--ids", "hard.txt", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert list((tmp_path / "runs").iterdir()) == [run]  # the identity is the same
    assert ids_in(run) == {*answered, other}
    assert (row_of(run)["chosen"], row_of(run)["n"]) == ("--ids hard.txt", 3)
    assert sorted(split_of(run)["ids"]) == sorted([*few, other])  # type: ignore[call-overload]
    (tmp_path / "hard.txt").unlink()

    again = evalkit("rescore", str(run), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (row_of(run)["chosen"], row_of(run)["n"]) == ("--ids hard.txt", 3)

    board = evalkit("leaderboard", "runs", "--format", "csv", cwd=tmp_path)
    assert "--ids hard.txt" in board.stdout
    report = evalkit("report", str(run), cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "A subset (--ids hard.txt) was run" in (run / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def scored(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with right answers to VQAv2 val in ``vqa.jsonl``, and their run folder ``runs/r``."""
    folder = tmp_path_factory.mktemp("scored")
    rows = [{"id": s.id, "text": s.references[0]} for s in load_task("vqav2/val", data="tiny")]
    (folder / "vqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit("score", "-t", "vqav2", "-p", "vqa.jsonl", "--data", "tiny", "--name", "r", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_score_of_a_part_is_rescored_as_that_part(evalkit: Evalkit, scored: Path) -> None:
    where = 'startswith(question, "How many") and answer_type == "number"'
    command = ("score", "-t", "vqav2", "-p", "vqa.jsonl", "--data", "tiny", "--name", "part", "--where", where)
    done = evalkit(*command, "--limit", "9", cwd=scored)
    assert done.returncode == 0, done.stderr
    assert "samples outside the split" not in done.stderr
    run = scored / "runs" / "part"
    assert (row_of(run)["n"], row_of(run)["limited"]) == (9, True)
    before = contents(run)
    again = evalkit("rescore", str(run), cwd=scored)
    assert again.returncode == 0, again.stderr
    assert contents(run) == before
    assert row_of(run)["chosen"] == f"--where '{where}' --limit 9"


def test_rescore_prints_part_and_leaves_run_as_it_is(evalkit: Evalkit, scored: Path) -> None:
    run = scored / "runs" / "r"
    before = contents(run)
    manifest = (run / "manifest.json").read_text()
    done = evalkit("rescore", str(run), "--where", 'answer_type == "number"', "--limit", "50%", cwd=scored)
    assert done.returncode == 0, done.stderr
    assert "A subset (--where 'answer_type == \"number\"' --limit 50%) was run" in said(done)
    rules = evalkit(
        "rescore", str(run), "--where", 'answer_type == "number"', "--rule", "official,lmms-eval", cwd=scored
    )
    assert "A subset (--where" in said(rules) or rules.returncode == 2  # which names the rules that there are
    assert contents(run) == before
    assert (run / "manifest.json").read_text() == manifest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("-t", "vqav2", "--where", 'answer_typ == "number"'),
            "there is no column 'answer_typ': did you mean answer_type",
        ),
        (("-t", "vqav2,refcoco/val", "--where", 'answer_type == "number"'), "refcoco/val: --where answer_type"),
        (("-t", "vqav2", "--ids", "ids.txt"), "--ids ids.txt: 2 of 3 ids are not in vqav2/val (no-such-id, other)."),
        (("-t", "vqav2", "--ids", "missing.txt"), "--ids missing.txt: the file cannot be read"),
        (("-t", "vqav2", "--limit", "0%"), "--limit 0%: give at least 1, or a percentage such as 5%."),
    ],
)
def test_wrong_choice_is_one_sentence(
    evalkit: Evalkit, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "ids.txt").write_text("1000\nno-such-id\nother\n")
    done = evalkit("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in said(done)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_tasks_counts_and_lists_columns(evalkit: Evalkit, tmp_path: Path) -> None:
    counted = evalkit("tasks", "vqav2", "--where", 'answer_type == "number"', cwd=tmp_path)
    number = sum(s.meta["answer_type"] == "number" for s in load_task("vqav2/val", data="tiny"))
    assert f"vqav2/val: {number} of 324 samples" in said(counted)
    columns = evalkit("tasks", "vqav2", "pope", "--columns", cwd=tmp_path)
    assert "answer_type texts 'number', 'other', 'yes/no'" in said(columns)
    assert "category lists 'random'" in said(columns)
    dry = evalkit("run", "-t", "vqav2", "--where", 'answer_type == "number"', "--dry-run", cwd=tmp_path)
    assert f"{number} of 324 samples (--where" in said(dry)
    assert evalkit("tasks", "--columns", cwd=tmp_path).returncode == 2


def test_where_takes_the_columns_of_a_described_task(evalkit: Evalkit, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,q,a,level\n1,What?,yes,1\n2,Which?,no,2\n3,Why?,yes,3\n")
    columns = 'columns = { question = "q", answers = "a", image = { value = [] } }'
    (tmp_path / "mine.toml").write_text(f'kind = "vqa"\nrows = "rows.csv"\n{columns}\n')
    counted = evalkit("tasks", "mine.toml", "--where", "number(level) >= 2", cwd=tmp_path)
    assert "mine/own: 2 of 3 samples" in said(counted)
    wrong = evalkit("tasks", "mine.toml", "--where", "level >= 2", cwd=tmp_path)
    assert "write number(level) for numbers that are texts" in said(wrong)
