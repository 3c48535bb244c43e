"""``evalkit report`` as a user calls it."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from evalkit.api import load_task
from evalkit.data import bundled_root

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


def printed(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def run(evalkit: Evalkit, tmp_path: Path) -> Path:
    """A scored run over DocVQA val in ``runs/r``, read as Qwen2.5-VL's answers are; its data lie beside it."""
    shutil.copytree(bundled_root(), tmp_path / "data")
    rows = [{"id": s.id, "text": f"{s.references[0]}<|im_end|>"} for s in load_task("docvqa/val", data="tiny")]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit(
        "score", "-t", "docvqa/val", "-p", "answers.jsonl", "--data", "data", "--name", "r", "--family", "qwen2.5-vl",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path / "runs" / "r"


def samples_of(report: Path) -> list[dict[str, object]]:
    body = (report / "data" / "0-0.js").read_text()
    return list(json.loads(body[body.index("[") : body.rindex("]") + 1]))


def test_report_has_questions_references_prompts_and_images(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    done = evalkit("report", "runs/r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["runs/r/report/index.html"]
    shown = samples_of(run / "report")
    official = list(load_task("docvqa/val", data="tiny"))
    assert [s["id"] for s in shown] == [s.id for s in official]
    for one, sample in zip(shown, official, strict=True):
        (side,) = one["runs"]  # type: ignore[misc]
        assert one["question"] == sample.text
        assert {reference for reference, _ in one["references"]} == set(sample.references)  # type: ignore[attr-defined]
        assert side["text"] == f"{sample.references[0]}<|im_end|>"
        assert side["prediction"] == sample.references[0]
        (turn,) = side["prompt"]
        assert turn[0] == "user"
        assert turn[1].startswith("⟨image⟩")
        assert sample.text in turn[1]
    images = len({i.name for s in official for i in s.images})
    assert f"{len(official)} samples, {images} images" in printed(done)


def test_missing_data_is_reported_and_the_rest_shown(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "data", tmp_path / "moved")
    done = evalkit("report", "runs/r", "--single-file", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["runs/r/report.html"]
    assert "note: docvqa/val: questions and references are left out, because the data is missing: --data" in printed(
        done
    )
    assert "0 images" in printed(done)
    assert "the data is missing" in html.unescape((run / "report.html").read_text())
    done = evalkit("report", "runs/r", "--data", "moved", "--out", "elsewhere", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note" not in printed(done)
    assert samples_of(tmp_path / "elsewhere")[0]["question"]


def test_rescored_run_shows_current_predictions(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    from evalkit.results.store.journal import seal

    journal = run / "docvqa.val.jsonl"
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    for line in lines:  # as an older evalkit might have parsed it
        line["answer"] = "an older prediction"
        del line["sum"], line["seconds"]
    journal.write_bytes(b"".join(seal(json.dumps(line).encode(), 0.0) for line in lines))
    done = evalkit("report", "runs/r", cwd=tmp_path)
    assert done.returncode == 2
    assert "rescore" in done.stderr, "the scores are not those of these answers"
    assert evalkit("rescore", "runs/r", cwd=tmp_path).returncode == 0
    evalkit("report", "runs/r", cwd=tmp_path)
    official = [s.references[0] for s in load_task("docvqa/val", data="tiny")]
    assert [s["runs"][0]["prediction"] for s in samples_of(run / "report")] == official  # type: ignore[index]


def test_usage_errors_exit_with_2(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "thesis.tex").write_text("mine")
    shutil.copytree(run, tmp_path / "torn")
    scores = tmp_path / "torn" / "docvqa.val.scores.jsonl"
    scores.write_text(scores.read_text()[:-20])
    shutil.copytree(run, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "scores.json").unlink()
    for arguments, sentence in (
        (("nowhere",), "nowhere is not a run folder"),
        (("unfinished",), "the run is not finished"),
        (("torn",), "not valid JSON"),
        (("runs/r", "runs/r"), "are the same run"),
        (("runs/r", "--out", "busy"), "contains other files"),
        (("runs/r", "--out", "answers.jsonl"), "is a file; give a folder, or --single-file"),
        (("runs/r", "--single-file", "--out", "busy"), "is a folder; with --single-file give a file's name"),
        (("runs/r", "--single-file", "--out", "answers.jsonl"), "is not a report written by evalkit"),
    ):
        done = evalkit("report", *arguments, cwd=tmp_path)
        assert done.returncode == 2, arguments
        assert sentence in printed(done)
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "busy" / "thesis.tex").read_text() == "mine"


def test_old_spelling_of_image_size_works(evalkit: Evalkit, run: Path, tmp_path: Path) -> None:
    for place, argument in enumerate((["--picture-size", "48"], ["--picture-size=48"])):
        done = evalkit("report", "runs/r", "--out", f"r{place}", *argument, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        images = list((tmp_path / f"r{place}" / "images").iterdir())
        assert images
        for image in images:
            with Image.open(image) as opened:
                assert max(opened.size) == 48
    assert "--picture-size" not in evalkit("report", "--help", cwd=tmp_path).stdout
