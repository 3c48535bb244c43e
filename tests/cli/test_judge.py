"""``--judge``: verdicts are requests, kept in the run folder, identified, resumed, and counted where there is none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from ..conftest import HTTPServer
from ..run_folders import edit_json, lines_of, runs_in, state_of
from ..tasks.rows import encoded, write_tsv
from .judging import SAMPLES, chat, graded, mmvet_answers, prompt_of, replying, write_answers, write_mmvet, write_plugin

Evalkit = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def judged(tmp_path: Path, http_server: HTTPServer) -> Path:
    """A folder with a small MM-Vet, answers to it, and an honest judge on the server."""
    write_mmvet(tmp_path / "root")
    write_answers(tmp_path, mmvet_answers())
    http_server.replace = replying(graded)
    return tmp_path


def score(evalkit: Evalkit, cwd: Path, server: HTTPServer, *more: str, name: str = "r") -> CompletedProcess[str]:
    judge = ("--judge-base-url", server.url)
    return evalkit("score", "-t", "mmvet", "-p", "mine.jsonl", "--data", "root", "--name", name, *judge, *more, cwd=cwd)


def row(cwd: Path, name: str = "r") -> dict[str, Any]:
    (found,) = json.loads((cwd / "runs" / name / "scores.json").read_text())["results"]
    return dict(found)


def verdicts(cwd: Path, name: str = "r") -> list[dict[str, Any]]:
    return lines_of(cwd / "runs" / name / "mmvet.test.verdicts.jsonl")


def _rename_prompt(content: dict[str, Any]) -> None:
    """Make a score one by an earlier prompt."""
    content["results"][0]["signature"] = content["results"][0]["signature"].replace("mmvet-1:", "mmvet-0:")


def said(done: CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


# ------------------------------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize("command", [("run", "--model", "tiny"), ("score", "-p", "mine.jsonl")])
def test_judged_task_is_refused_without_judge(evalkit: Evalkit, judged: Path, command: tuple[str, ...]) -> None:
    done = evalkit(*command, "-t", "mmvet", "--data", "root", cwd=judged)
    assert done.returncode == 2
    assert (
        "mmvet/test: its answers are scored by a judge (metric mmvet); name a model that judges with --judge"
        in said(done)
    )
    assert not (judged / "runs").exists()


def test_judge_for_tasks_that_need_none_is_refused(evalkit: Evalkit, tmp_path: Path) -> None:
    done = evalkit("run", "-t", "vqav2/val", "--judge", "tiny-early", "--limit", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--judge: no answers of vqav2/val are scored by a judge; leave it out." in said(done)


def test_judge_of_settings_file_is_for_tasks_that_need_one(evalkit: Evalkit, tmp_path: Path) -> None:
    (tmp_path / "evalkit.toml").write_text('judge = "tiny-early"\n')
    done = evalkit("run", "-t", "vqav2/val", "--limit", "1", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_unknown_judge_is_refused(evalkit: Evalkit, judged: Path) -> None:
    given = ("score", "-t", "mmvet", "-p", "mine.jsonl", "--data", "root", "--judge", "no-such-folder")
    done = evalkit(*given, cwd=judged)
    assert done.returncode == 2
    assert "--judge no-such-folder: there is no such folder" in said(done)


def test_verdicts_are_scored_and_signed(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    done = score(evalkit, judged, http_server)
    assert done.returncode == 0, done.stderr
    found = row(judged)
    assert found["value"] == 50.0
    # ocr: 0 and 2, 4 and 6 are right; rec: 1, 3, 5, 7 are wrong
    assert {key: found["values"][key] for key in ("score[ocr]", "score[rec]", "score[ocr+math]", "score[rec+know]")} == {
        "score[ocr]": 100.0, "score[rec]": 0.0, "score[ocr+math]": 100.0, "score[rec+know]": 0.0,
    }  # fmt: skip
    assert "|mmvet|judge:one@" in found["signature"]
    assert "|judge-prompt:mmvet-1:0-1|v1|" in found["signature"]
    assert (found["n"], found["errors"], found.get("unjudged", 0)) == (SAMPLES, 0, 0)
    assert len(http_server.seen) == len(verdicts(judged)) == SAMPLES
    board = said(evalkit("leaderboard", "runs", cwd=judged))
    assert "earlier" not in board
    edit_json(judged / "runs/r/scores.json", lambda content: _rename_prompt(content))
    assert "Scored by an earlier mmvet (judge-prompt:mmvet-0:0-1; now judge-prompt:mmvet-1:0-1)" in said(
        evalkit("leaderboard", "runs", cwd=judged)
    )
    body = http_server.seen[0]
    assert body["temperature"] == 0
    assert prompt_of(body).startswith("Compare the ground truth and prediction from AI models")
    assert "Which number has object 0? | 0 <OR> number 0 | It is 0. | " in {
        prompt_of(one).splitlines()[-1] for one in http_server.seen
    }


def test_rescore_uses_recorded_verdicts(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    score(evalkit, judged, http_server)
    before = row(judged)
    http_server.seen.clear()
    done = evalkit("rescore", "runs/r", cwd=judged)
    assert done.returncode == 0, done.stderr
    assert "mmvet/test: unchanged" in said(done)
    assert row(judged) == before
    assert not http_server.seen
    done = evalkit("rescore", "runs/r", "--judge-base-url", http_server.url, cwd=judged)
    assert f"0 verdicts by {before['signature'].split('judge:')[1].split('|')[0]} in" in said(done)
    assert not http_server.seen


def test_unparsed_answer_is_wrong_without_question(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    write_answers(judged, {**mmvet_answers(), "v1_0": ""})
    done = score(evalkit, judged, http_server)
    assert done.returncode == 0
    assert (row(judged)["value"], row(judged)["unparsed"]) == (37.5, 1)
    assert len(http_server.seen) == SAMPLES - 1


# ----------------------------------------------------------------------------------------------- what is no verdict


def test_replies_without_verdict_are_left_out_and_counted(
    evalkit: Evalkit, judged: Path, http_server: HTTPServer
) -> None:
    bad = {"object 0?": "I am sorry, but I cannot grade this.", "object 1?": "7", "object 2?": '{"score": 1.0}'}

    def misbehaving(body: dict[str, Any]) -> str:
        last = prompt_of(body).splitlines()[-1]
        return next((reply for mark, reply in bad.items() if mark in last), graded(body))

    http_server.replace = replying(misbehaving)
    done = score(evalkit, judged, http_server)
    assert done.returncode == 0, done.stderr
    found = row(judged)
    assert (found["n"], found["unjudged"], found["errors"]) == (SAMPLES - 3, 3, 0)
    assert found["value"] == 40.0  # 4 and 6 of 3, 4, 5, 6, 7
    (note,) = found["notes"]
    assert note == (
        "3 answers are left out of 8, because the judge's verdict is missing (2 unreadable, 1 out of the scale); with "
        "them, score would be between 25.00 and 62.50"
    )
    assert note in said(done)
    shown = said(evalkit("show", "runs/r", "--id", "v1_0", "--data", "root", cwd=judged))
    assert "verdict (unreadable) I am sorry, but I cannot grade this." in shown
    assert sorted(line["problem"] for line in verdicts(judged) if "problem" in line) == [
        "out of range", "unreadable", "unreadable",
    ]  # fmt: skip


def test_judge_that_never_answers_gives_no_score(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    http_server.replace = replying(lambda body: "As an AI model, I prefer not to grade.")
    done = score(evalkit, judged, http_server)
    assert done.returncode == 1
    assert row(judged)["value"] is None
    assert "none of 8 answers has a verdict of the judge one@" in said(done)


def test_failures_are_errors_and_asked_again(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    def failing(number: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "object 3?" in prompt_of(body).splitlines()[-1]:
            return 400, {"error": {"message": "the content was refused"}}
        return chat(graded(body))

    http_server.replace = failing
    done = score(evalkit, judged, http_server)
    assert done.returncode == 1
    found = row(judged)
    assert (found["n"], found["errors"], found.get("unjudged", 0)) == (SAMPLES - 1, 1, 0)
    assert found["value"] == pytest.approx(400 / 7)
    http_server.replace = replying(graded)
    http_server.seen.clear()
    done = evalkit("rescore", "runs/r", "--judge-base-url", http_server.url, cwd=judged)
    assert done.returncode == 0, done.stderr
    assert len(http_server.seen) == 1
    assert (row(judged)["value"], row(judged)["errors"]) == (50.0, 0)


# ------------------------------------------------------------------------------------------------------------ identity


def test_other_judge_starts_anew_and_says_so(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    score(evalkit, judged, http_server)
    http_server.models = [{"id": "two", "object": "model", "owned_by": "nobody", "created": 1}]
    http_server.seen.clear()
    done = evalkit("rescore", "runs/r", "--judge-base-url", http_server.url, cwd=judged)
    assert done.returncode == 0, done.stderr
    assert "mmvet/test: 8 verdicts are by another judge (one@" in said(done)
    assert len(http_server.seen) == SAMPLES
    assert "judge:two@" in row(judged)["signature"]
    rejected = judged / "runs/r/mmvet.test.verdicts.jsonl.rejected"
    assert len(lines_of(rejected)) == SAMPLES


def test_changed_answer_and_prompt_are_asked_again(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    score(evalkit, judged, http_server)
    http_server.seen.clear()
    done = evalkit("rescore", "runs/r", "--rule", "vlmevalkit-e8e78f0", "--judge-base-url", http_server.url, cwd=judged)
    assert done.returncode == 0, done.stderr
    assert "asking again for 8 verdicts: the judge's prompt changed" in said(done)
    assert len(http_server.seen) == SAMPLES
    assert "|mmvet_vlmevalkit|judge:one@" in row(judged)["signature"]


def test_corrupt_verdict_is_asked_again(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    score(evalkit, judged, http_server)
    path = judged / "runs/r/mmvet.test.verdicts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"text": "', b'"text": "x')
    path.write_bytes(b"".join(lines))
    done = evalkit("leaderboard", "runs", cwd=judged)
    assert "computed from other verdicts" in said(done)
    http_server.seen.clear()
    done = evalkit("rescore", "runs/r", "--judge-base-url", http_server.url, cwd=judged)
    assert done.returncode == 0, done.stderr
    assert "line 3 is corrupt" in said(done)
    assert len(http_server.seen) == 1


def test_key_of_other_server_is_not_sent_to_judge(evalkit: Evalkit, judged: Path, http_server: HTTPServer) -> None:
    judge = HTTPServer()
    judge.replace = replying(graded)
    try:
        given = ("run", "-t", "mmvet", "--data", "root", "--backend", "server", "--base-url", http_server.url)
        given = (*given, "--judge-base-url", judge.url)
        http_server.replace = replying(lambda body: "It is 0.")
        done = evalkit(*given, cwd=judged, EVALKIT_API_KEY="models-key")
        assert done.returncode == 0, done.stderr
        assert all("Authorization" not in headers for headers in judge.headers)
        assert any(headers.get("Authorization") == "Bearer models-key" for headers in http_server.headers)
        judge.headers.clear()
        keys = {"EVALKIT_API_KEY": "models-key", "EVALKIT_JUDGE_API_KEY": "judges-key"}
        done = evalkit(*given, "--fresh", cwd=judged, **keys)
        assert done.returncode == 0, done.stderr
        assert {headers.get("Authorization") for headers in judge.headers} == {"Bearer judges-key"}
        written = b"".join(path.read_bytes() for path in judged.glob("runs/*/*") if path.is_file())
        assert b"judges-key" not in written
        assert b"models-key" not in written
    finally:
        judge.stop()


# ------------------------------------------------------------------------------------------------ rules, rounds, orders


def write_mathvista(root: Path) -> None:
    """Three problems with an integer answer, of which two responses need an extraction."""
    problem = {
        "question": "How many?", "choices": None, "unit": None, "precision": None, "question_type": "free_form",
        "answer_type": "integer", "image": "images/1.jpg", "metadata": {"language": "english"},
    }  # fmt: skip
    (root / "mathvista" / "data").mkdir(parents=True)
    content = {str(n): {**problem, "pid": str(n), "answer": str(n)} for n in (1, 2, 3)}
    (root / "mathvista" / "data" / "testmini.json").write_text(json.dumps(content))


def test_rule_without_judge_is_named(evalkit: Evalkit, tmp_path: Path, http_server: HTTPServer) -> None:
    write_mathvista(tmp_path / "root")
    write_answers(tmp_path, {"1": "1", "2": "There are 2 of them.", "3": "It is 7."})
    given = ("score", "-t", "mathvista", "-p", "mine.jsonl", "--data", "root")
    done = evalkit(*given, "--name", "alone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row(tmp_path, "alone")["value"] == pytest.approx(100 / 3)
    assert "|mathvista_vlmevalkit|prefetch|" in row(tmp_path, "alone")["signature"]
    http_server.replace = replying(lambda body: "2" if "There are 2" in prompt_of(body) else "7")
    done = evalkit(*given, "--name", "judged", "--judge-base-url", http_server.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row(tmp_path, "judged")["value"] == pytest.approx(200 / 3)
    assert row(tmp_path, "judged")["values"]["judged"] == pytest.approx(200 / 3)
    assert "|mathvista_judged|judge:one@" in row(tmp_path, "judged")["signature"]
    assert "|judge-prompt:mathvista-vlmevalkit-1:text|" in row(tmp_path, "judged")["signature"]
    assert len(http_server.seen) == 2
    done = evalkit(*given, "--name", "r", "--rule", "official", "--judge-base-url", http_server.url, cwd=tmp_path)
    assert done.returncode == 2
    assert "no answers of mathvista/testmini are scored by a judge" in said(done)


def test_second_round_follows_first(evalkit: Evalkit, tmp_path: Path, http_server: HTTPServer) -> None:
    """MathVerse: what is extracted is in the second question; without an extraction there is none."""
    meta = "{'subject': 'Plane Geometry', 'subfield': 'Angle'}"
    rows = [
        {"index": n, "question": "Q", "answer": "B", "problem_version": "Vision Only", "question_for_eval": f"Question {n}",
         "metadata": meta, "image": encoded(n)}
        for n in range(3)
    ]  # fmt: skip
    write_tsv(tmp_path / "root" / "mathverse" / "MathVerse_MINI.tsv", rows)
    write_answers(tmp_path, {"0": "So it is B.", "1": "So it is C.", "2": "I give up."})

    def judge(body: dict[str, Any]) -> str:
        text = prompt_of(body)
        if text.endswith("Extracted Answer: "):
            return next((letter for letter in "BC" if f"So it is {letter}." in text), "")
        return "1" if "[Model_answer] : B" in text.splitlines()[-2] else "0"

    http_server.replace = replying(judge)
    given = ("score", "-t", "mathverse", "-p", "mine.jsonl", "--data", "root", "--name", "r")
    done = evalkit(*given, "--judge-base-url", http_server.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = row(tmp_path)
    assert (found["value"], found["n"], found["unjudged"]) == (50.0, 2, 1)
    lines = lines_of(tmp_path / "runs/r/mathverse.testmini.verdicts.jsonl")
    assert sorted(line["id"] for line in lines) == [
        "0#extraction", "0#score", "1#extraction", "1#score", "2#extraction",
    ]  # fmt: skip
    assert "judge-prompt:mathverse-extract-1:text|judge-prompt:mathverse-score-1:0-1|" in found["signature"]


def test_comparison_is_asked_in_both_orders(evalkit: Evalkit, tmp_path: Path, http_server: HTTPServer) -> None:
    rows = [
        {"index": n, "question": f"Q{n}", "category": "conv", "caption": "A street.", "gpt4_ans": "good",
         "image": encoded(n)}
        for n in range(4)
    ]  # fmt: skip
    write_tsv(tmp_path / "root" / "llavabench" / "LLaVABench.tsv", rows)
    write_answers(tmp_path, {str(n): "bad" for n in range(4)})

    def judge(body: dict[str, Any]) -> str:
        text = prompt_of(body)
        if "[Question]\nQ3\n" in text:
            return "9 2\nThe first is better."  # wherever it is
        return "8 4" if "[Assistant 1]\ngood" in text else "4 8"

    http_server.replace = replying(judge)
    given = ("score", "-t", "llavabench", "-p", "mine.jsonl", "--data", "root", "--name", "r")
    done = evalkit(*given, "--judge-base-url", http_server.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(http_server.seen) == 8
    assert http_server.seen[0]["messages"][0]["role"] == "system"
    values = row(tmp_path)["values"]
    assert values["score"] == pytest.approx(100 * (6 * 4 + 2 + 9) / (6 * 8 + 9 + 2))
    assert values["score[reference first]"] == pytest.approx(100 * (3 * 4 + 2) / (3 * 8 + 9))
    assert values["disagreement"] == 25.0
    assert "which answer is better depends on the order for 1 of 4 questions" in said(done)


# ---------------------------------------------------------------------------------- a checkpoint through the engine


@pytest.fixture
def judging_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with yes/no questions about bundled images, scored by whether the judge sees the same."""
    monkeypatch.syspath_prepend(str(write_plugin(tmp_path)))
    yield tmp_path
    sys.modules.pop("odd_metric", None)


def test_tiny_is_judged_by_other_checkpoint(evalkit: Evalkit, judging_plugin: Path) -> None:
    command = ("run", "-t", "mine.jsonl", "--judge", "tiny-early", "--device", "cpu", "--data", "tiny")
    done = evalkit(*command, cwd=judging_plugin)
    assert done.returncode == 0, done.stderr
    (run,) = runs_in(judging_plugin)
    assert state_of(run) == "complete"
    lines = lines_of(run / "mine.own.verdicts.jsonl")
    assert len(lines) == 12
    assert {line["answer"] for line in lines} <= {"yes", "no"}
    assert all(line["images"] and line["digests"][0] for line in lines)
    answers = {line["id"]: line["text"] for line in lines_of(run / "mine.own.jsonl")}
    agree = [answers[line["id"].partition("#")[0]].lower().startswith(line["answer"]) for line in lines]
    (found,) = json.loads((run / "scores.json").read_text())["results"]
    assert found["value"] == pytest.approx(100 * sum(agree) / 12)
    assert "|odd|judge:tiny-early@" in found["signature"]
    assert json.loads((run / "manifest.json").read_text())["judge"]["judge"].startswith("tiny-early@")
    before = (run / "mine.own.verdicts.jsonl").read_bytes()
    done = evalkit(*command, cwd=judging_plugin)
    assert done.returncode == 0, done.stderr
    assert "0 verdicts by tiny-early@" in said(done)
    assert "loaded" not in said(done)  # neither the model nor the judge
    assert (run / "mine.own.verdicts.jsonl").read_bytes() == before


def test_served_judge_has_own_device_and_dtype(evalkit: Evalkit, judging_plugin: Path, http_server: HTTPServer) -> None:
    http_server.replace = replying(lambda body: "yes")
    rest = ("--device", "cpu", "--dtype", "float32", "--batch-size", "3", "--data", "tiny", "--limit", "3")
    done = evalkit("run", "-t", "mine.jsonl", "--judge-base-url", http_server.url, *rest, cwd=judging_plugin)
    assert done.returncode == 0, done.stderr
    assert len(http_server.seen) == 3


def test_evaluate_asks_judge(judging_plugin: Path, monkeypatch: pytest.MonkeyPatch, http_server: HTTPServer) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from evalkit import evaluate
    from evalkit.checkpoint import bundled_folder

    monkeypatch.chdir(judging_plugin)
    http_server.replace = replying(lambda body: "Yes.")
    folder = bundled_folder("tiny")
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    results = evaluate(
        model=model, processor=processor, tasks="mine.jsonl", data="tiny", limit=4, judge_base_url=http_server.url
    )
    (result,) = results.values()
    assert result.scores is not None
    assert "judge:one@" in result.scores.signature
    (texts,) = results.answers.values()
    assert result.scores.values["agrees"] == 100 * sum(t.lower().startswith("yes") for t in texts.values()) / 4
    assert len(http_server.seen) == 4
