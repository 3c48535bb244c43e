"""``evalkit import`` on files that the other harnesses wrote (``files/README.md``)."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.errors import UserError
from evalkit.importing.evalscope import read_evalscope
from evalkit.importing.inspect_log import read_log
from evalkit.importing.samples_files import read_samples
from evalkit.results.store.run_choice import FolderSpec, choose

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
FILES = Path(__file__).parent / "files"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A copy of the files, with images for the open questions."""
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "images").mkdir()
    for number in range(101, 121):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "images" / f"w{number}.png")
    return tmp_path


def row_of(run: Path) -> dict[str, Any]:
    (row,) = json.loads((run / "scores.json").read_text())["results"]
    return dict(row)


def compared(run: Path) -> dict[str, dict[str, Any]]:
    (file,) = run.glob("*.imported.jsonl")
    return {line["id"]: line for line in map(json.loads, file.read_text().splitlines())}


def imported(evalkit: Evalkit, cwd: Path, *arguments: str, code: int = 0) -> Path:
    done = evalkit("import", *arguments, "--name", "x", cwd=cwd)
    assert done.returncode == code, done.stderr
    return cwd / "runs" / "x"


def reasons(run: Path) -> dict[str, str]:
    return {id: line["reason"] for id, line in compared(run).items() if line["reason"]}


def theirs(run: Path) -> float:
    """The mean of the other harness's scores."""
    given = [line["theirs"] for line in compared(run).values() if line["theirs"] is not None]
    return float(sum(given) / len(given))


# ------------------------------------------------------------------------------------------------------- each harness


def test_lmms_eval_multiple_choice(evalkit: Evalkit, here: Path) -> None:
    run = imported(evalkit, here, "lmms-eval", "--tasks", "shapes.tsv")
    assert (row_of(run)["value"], theirs(run)) == (55.0, 0.4)
    assert reasons(run) == dict.fromkeys(["4", "8", "18"], "extraction")
    assert compared(run)["8"] == {
        "id": "8", "ours": 1.0, "theirs": 0.0, "reason": "extraction", "ours_read": "C", "theirs_read": "A",
    }  # fmt: skip
    manifest = json.loads((run / "manifest.json").read_text())
    record = manifest["imported"]["shapes/own"]
    assert (record["harness"], record["version"], record["task"]) == ("lmms-eval", None, "shapes")
    assert record["stated"]["shapes_acc,none"] == 0.4
    assert [Path(file["file"]).name for file in record["files"]] == [
        "20261130_005703_samples_shapes.jsonl", "20261130_005703_results.json",
    ]  # fmt: skip
    assert manifest["model"] == {"name": "table"}
    assert "|imported:lmms-eval|letters:" in row_of(run)["signature"]
    journal = [json.loads(line) for line in (run / "shapes.own.jsonl").read_text().splitlines()]
    assert [line["text"] for line in journal[:3]] == ["(A)", "The answer is C.", "D. circle"]  # raw


def test_lmms_eval_samples_without_ids_are_joined_by_place_and_checked_by_question(
    evalkit: Evalkit, here: Path
) -> None:
    run = imported(evalkit, here, "lmms-eval", "--tasks", "colors.jsonl")
    assert (row_of(run)["value"], theirs(run), reasons(run)) == (15.0, 0.2, {"101": "normalisation"})
    record = json.loads((run / "manifest.json").read_text())["imported"]["colors/own"]
    assert (record["ids"], record["questions_compared"]) == ("position", 20)


def test_another_score_of_the_harness(evalkit: Evalkit, here: Path) -> None:
    run = imported(evalkit, here, "lmms-eval", "--tasks", "colors.jsonl", "--metric", "anls")
    assert theirs(run) == 0.5


@pytest.mark.parametrize(("filter_", "score"), [("strict", 0.2), ("word", 0.45)])
def test_lm_evaluation_harness(evalkit: Evalkit, here: Path, filter_: str, score: float) -> None:
    run = imported(evalkit, here, "lm-eval", "--tasks", "colors.jsonl", "--filter", filter_)
    assert (row_of(run)["value"], theirs(run)) == (15.0, pytest.approx(score))
    record = json.loads((run / "manifest.json").read_text())["imported"]["colors/own"]
    assert (record["version"], record["metric"], record["ids"]) == ("0.4.13", f"exact_match,{filter_}", "id")
    assert record["stated"][f"exact_match,{filter_}"] == pytest.approx(score)
    assert "|imported:lm-evaluation-harness-0.4.13|" in row_of(run)["signature"]
    if filter_ == "word":
        assert reasons(run)["103"] == "extraction"
        assert compared(run)["103"]["theirs_read"] == "[invalid]"


def test_evalscope(evalkit: Evalkit, here: Path) -> None:
    run = imported(evalkit, here, "evalscope", "--tasks", "shapes.tsv")
    assert (row_of(run)["value"], theirs(run), reasons(run)) == (55.0, 0.5, {"4": "extraction"})
    record = json.loads((run / "manifest.json").read_text())["imported"]["shapes/own"]
    assert (record["version"], record["model"], record["stated"]) == ("1.14.1", "table", {"accuracy": 0.5})
    assert record["questions_compared"] == 20


def test_evalscope_reviews_alone_have_the_answers_too() -> None:
    both = read_evalscope(FILES / "evalscope/predictions/table/general_vmcq_shapes.jsonl")
    alone = read_evalscope(FILES / "evalscope/reviews/table/general_vmcq_shapes.jsonl")
    assert [a.text for a in both.answers] == [a.text for a in alone.answers]
    assert [a.score for a in both.answers] == [a.score for a in alone.answers]


def test_scores_of_an_inspect_log_and_its_archive(evalkit: Evalkit, here: Path) -> None:
    run = imported(evalkit, here, "inspect", "--tasks", "shapes.tsv", "--skip-missing")
    assert (row_of(run)["n"], theirs(run)) == (8, 0.125)
    assert set(reasons(run).values()) == {"extraction"}
    record = json.loads((run / "manifest.json").read_text())["imported"]["shapes/own"]
    assert (record["harness"], record["version"], record["model"]) == ("Inspect", "0.3.285", "openai/table")
    (log,) = (FILES / "inspect").glob("*colors*.json")
    assert [a.score for a in read_log(log, metric="match").answers][:2] == [1.0, 0.0]
    assert [a.score for a in read_log(log, metric="includes").answers][:2] == [1.0, 1.0]


# --------------------------------------------------------------------------------------------- what is done with runs


def test_commands_work_on_imported_runs(evalkit: Evalkit, here: Path) -> None:
    for name, folder in (("lmms", "lmms-eval"), ("lm", "lm-eval")):
        done = evalkit("import", folder, "--tasks", "colors.jsonl", "--name", name, cwd=here)
        assert done.returncode == 0, done.stderr
    shown = evalkit("leaderboard", "--format", "csv", cwd=here)
    assert {row["run"]: row["value"] for row in csv.DictReader(shown.stdout.splitlines())} == {
        "lmms": "15.0", "lm": "15.0",
    }  # fmt: skip
    assert evalkit("compare", "runs/lmms", "runs/lm", cwd=here).returncode == 0
    assert evalkit("show", "runs/lmms", "--wrong", "2", cwd=here).returncode == 0
    assert evalkit("baseline", "runs/lmms", "--out", "base.json", cwd=here).returncode == 0
    assert evalkit("check", "runs/lm", "--baseline", "base.json", cwd=here).returncode == 0
    assert evalkit("rescore", "runs/lmms", cwd=here).returncode == 0
    assert "imported:lmms-eval" in row_of(here / "runs/lmms")["signature"]


def test_an_imported_run_is_not_resumed(evalkit: Evalkit, here: Path) -> None:
    imported(evalkit, here, "lmms-eval", "--tasks", "colors.jsonl")
    spec = FolderSpec("table", {"weights": "w"}, {"colors/own": {"version": 1}})
    with pytest.raises(UserError, match="it was created by 'evalkit import'"):
        choose(here / "runs", spec, name="x", fresh=False)
    assert choose(here / "runs", spec, name=None, fresh=False).folder.path.name != "x"


def test_missing_and_foreign_samples(evalkit: Evalkit, here: Path) -> None:
    (file,) = (here / "lmms-eval/table").glob("*shapes.jsonl")
    lines = file.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["shapes_acc"]["question_id"] = 99  # a sample of another split
    del rows[5]  # sample 6
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit("import", "lmms-eval", "--tasks", "shapes.tsv", "--id", "question_id", cwd=here)
    assert done.returncode == 2
    assert "2 samples without an answer (1, 6)" in done.stderr
    run = imported(evalkit, here, "lmms-eval", "--tasks", "shapes.tsv", "--allow-missing", "--id", "question_id")
    found = reasons(run)
    assert (found["1"], found["6"], found["99"]) == ("missing", "missing", "outside the split")
    assert row_of(run)["n"] == 20


def test_an_error_that_the_harness_recorded_is_a_failed_sample(evalkit: Evalkit, here: Path) -> None:
    (log,) = (here / "inspect").glob("*colors*.json")
    content = json.loads(log.read_text())
    content["samples"][2]["error"] = {"message": "the server was gone\nTraceback"}
    log.write_text(json.dumps(content))
    run = imported(evalkit, here, str(log), "--tasks", "colors.jsonl", "--skip-missing", code=1)
    assert (row_of(run)["errors"], row_of(run)["n"]) == (1, 7)
    assert reasons(run)["103"] == "failed"


# ------------------------------------------------------------------------------------------------------------ refusals


def test_other_questions_are_refused(evalkit: Evalkit, here: Path) -> None:
    text = (here / "shapes.tsv").read_text().replace("Which shape is in drawing", "What is the name of picture")
    (here / "other.tsv").write_text(text)
    done = evalkit("import", "lmms-eval/table/20261130_005703_samples_shapes.jsonl", "--tasks", "other.tsv", cwd=here)
    assert done.returncode == 2
    assert "have another question than those of this split" in done.stderr


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "pickle": ("m_shapes.pkl", b"cos\nsystem\n(S'touch x'\ntR.", "pickles are not read, since they can execute code"),
    "unknown lines": ("x.jsonl", b'{"a": 1}\n', "has lines with 'a', which is no known form"),
    "plain answers": ("x.jsonl", b'{"id": 1, "text": "a"}\n', "'evalkit score' reads plain files of answers"),
    "no lines": ("x.jsonl", b"", "x.jsonl is empty"),
    "other json": ("x.json", b'{"results": {}}', "is of no known form (a results file of aggregates, perhaps"),
    "other ending": ("x.parquet", b"PAR1", "files ending in .parquet are not known"),
    "inspect 3": (
        "x.json",
        b'{"version": 3, "status": "success", "eval": {}, "samples": []}',
        "is a log of Inspect in version 3 of the format; version 2 is supported",
    ),
    "no archive": ("x.eval", b"PK", "not a complete archive"),
    "other table": ("x.csv", b"a,b\n1,2\n", "its columns are 'a', 'b'; VLMEvalKit's predictions have"),
    "aggregates": ("m_shapes_acc.csv", b"split,Overall\nnone,1\n", "has aggregates only"),
    "log-likelihoods": (
        "samples_a_2026-11-29T16-40-38.1.jsonl",
        b'{"doc_id": 0, "doc": {}, "target": 0, "resps": [[["-1", "True"]], [["-2", "False"]]], "filter": "none"}\n',
        "log-likelihoods of options",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unknown_files_are_refused_with_a_sentence(evalkit: Evalkit, here: Path, name: str) -> None:
    file, content, expected = REFUSED[name]
    (here / file).write_bytes(content)
    done = evalkit("import", file, "--tasks", "shapes.tsv", cwd=here)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (here / "runs").exists()


def test_unknown_versions_are_refused(evalkit: Evalkit, here: Path) -> None:
    (results,) = (here / "lm-eval/table").glob("results*")
    results.write_text(results.read_text().replace("0.4.13", "0.9.0"))
    done = evalkit("import", "lm-eval", "--tasks", "colors.jsonl", cwd=here)
    assert (done.returncode, "was written by lm-evaluation-harness 0.9.0" in done.stderr) == (2, True)
    config = here / "evalscope/configs/task_config.yaml"
    config.write_text(config.read_text().replace("1.14.1", "2.0"))
    done = evalkit("import", "evalscope", "--tasks", "shapes.tsv", cwd=here)
    assert (done.returncode, "was written by EvalScope 2.0" in done.stderr) == (2, True)


def test_a_folder_of_several_harnesses_needs_a_choice(evalkit: Evalkit, here: Path) -> None:
    done = evalkit("import", ".", "--tasks", "shapes.tsv", cwd=here)
    assert done.returncode == 2
    assert "give the file of one" in done.stderr
    assert evalkit("import", ".", "--from", "lmms-eval", "--tasks", "shapes.tsv", cwd=here).returncode == 0
    done = evalkit("import", "lm-eval/table", "--from", "inspect", "--tasks", "shapes.tsv", cwd=here)
    assert (done.returncode, "files is known" in done.stderr) == (2, True)


def test_repeats_of_a_sample() -> None:
    (file,) = (FILES / "lm-eval/table").glob("samples*")
    found = read_samples(file, chosen_filter="word")
    assert {answer.repeat for answer in found.answers} == {1}
    assert found.notes == []
