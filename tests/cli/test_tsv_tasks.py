"""VLMEvalKit's TSV files as custom tasks: everything that takes a ``.jsonl`` task takes them, and what is wrong with one
is said in a sentence."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

Call = Callable[..., subprocess.CompletedProcess[str]]

CHOICE = ("index", "image", "question", "hint", "A", "B", "C", "answer", "category", "l2-category", "split")
PLAIN = ("index", "image", "question", "answer")


def b64(color: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (90, 90), color).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


RED, BLUE = b64("red"), b64("blue")


def table(path: Path, header: Sequence[str], *rows: Sequence[str]) -> None:
    path.write_text("".join("\t".join(cells) + "\n" for cells in (header, *rows)))


def choices(path: Path, first: str = RED) -> None:
    """Four rows: two orders of one question, a missing option, and a question without an image."""
    table(
        path,
        CHOICE,
        ("1", first, "What color is it?", "", "red", "blue", "green", "A", "color", "c1", "dev"),
        ("2", BLUE, "What color is it?", "Look.", "red", "", "blue", "C", "color", "c1", "dev"),
        ("3", "", "What color is the sky?", "", "red", "blue", "", "B", "text", "c2", "test"),
        ("1000001", "1", "What color is it?", "", "blue", "red", "green", "B", "color", "c1", "dev"),
    )


@pytest.fixture(scope="session")
def made(evalkit: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``runs/x`` over three TSV files, one of each kind."""
    folder = tmp_path_factory.mktemp("tsv")
    choices(folder / "mine.tsv")
    table(folder / "yn.tsv", PLAIN, ("1", RED, "Is it red?", "Yes"), ("2", f"['{RED}', '{BLUE}']", "Are they?", "No"))
    table(folder / "vqa.tsv", PLAIN, ("1", RED, "What color is it?", "['red', 'dark red']"), ("2", BLUE, "?", "blue"))
    done = evalkit(*RUN, "--tasks", "mine.tsv,yn.tsv,vqa.tsv", "--name", "x", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


RUN = ("run", "--model", "tiny", "--device", "cpu")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A folder of the test's own, with the same files and a copy of the run."""
    return Path(shutil.copytree(made, tmp_path / "here"))


def rows_of(run: Path) -> dict[str, dict[str, object]]:
    return {row["task"]: row for row in json.loads((run / "scores.json").read_text())["results"]}


def test_run_scores_each_kind(made: Path) -> None:
    rows = rows_of(made / "runs" / "x")
    assert {name: (row["n"], row["errors"]) for name, row in rows.items()} == {
        "mine": (4, 0), "yn": (2, 0), "vqa": (2, 0),
    }  # fmt: skip
    signatures = {name: str(row["signature"]) for name, row in rows.items()}
    assert all(f"{name}:own|v1|file:" in signature for name, signature in signatures.items())
    assert "letters:evalkit-2|choice_accuracy" in signatures["mine"]
    assert "yes-no:evalkit-yes-no-1|yes_no_accuracy" in signatures["yn"]
    assert "exact_match" in signatures["vqa"]
    values = rows["mine"]["values"]
    assert isinstance(values, dict)
    assert {"accuracy[color]", "accuracy[text]", "l2_accuracy[c1]", "accuracy_l2"} <= values.keys()
    assert rows["mine"]["clusters"] == 3, "both orders of the first question are one"
    scores = (made / "runs" / "x" / "mine.own.scores.jsonl").read_text()
    assert [json.loads(line)["cluster"] for line in scores.splitlines()] == ["1", "2", "3", "1"]
    assert str(made) not in scores


def test_prompts_are_shown(evalkit: Call, folder: Path) -> None:
    done = evalkit(*RUN, "--tasks", "mine.tsv", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "mine.tsv[1]: 90 × 90 pixels" in done.stdout
    assert "Look.\n" in done.stdout
    assert "A. red\n    │ C. blue\n" in done.stdout
    done = evalkit("tasks", "mine.tsv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"Custom task mine: {folder}/mine.tsv" in done.stdout
    assert "circular  a question is right if it is answered right with its options in every order" in done.stdout
    assert "mine:own|v1|file:" in done.stdout


def test_resume_here_and_in_another_folder(evalkit: Call, folder: Path) -> None:
    done = evalkit(*RUN, "--tasks", "mine.tsv,yn.tsv,vqa.tsv", "--name", "x", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("0 answered") == 3
    choices(folder / "mine.tsv", first=b64("green"))
    done = evalkit(*RUN, "--tasks", "mine.tsv,yn.tsv,vqa.tsv", "--name", "x", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "mine/own: re-running 2 samples: image changed" in " ".join(done.stderr.split())
    choices(folder / "mine.tsv")
    text = (folder / "mine.tsv").read_text()
    (folder / "mine.tsv").write_text(text.replace("the sky", "the sea"))
    done = evalkit(*RUN, "--tasks", "mine.tsv", "--name", "x", cwd=folder)
    assert done.returncode == 2
    assert "annotations" in done.stderr


def test_rescore_after_move(evalkit: Call, folder: Path) -> None:
    manifest = (folder / "runs" / "x" / "manifest.json").read_text()
    gone = next(part for part in json.loads(manifest)["splits"].values())["reference"]
    assert gone.endswith("/mine.tsv")
    shutil.move(Path(gone), folder / "hidden")  # the run's own file, where it was made
    try:
        done = evalkit("rescore", "runs/x", cwd=folder)
        assert done.returncode == 2
        assert "give the folder that has mine.tsv now with --data" in done.stderr
        done = evalkit("rescore", "runs/x", "--data", ".", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("unchanged") == 3
        done = evalkit("show", "runs/x", "--tasks", "mine.tsv", "--any", "4", "--data", ".", cwd=folder)
        assert "Custom task" not in done.stdout
        assert "reference A. red" in done.stdout
    finally:
        shutil.move(folder / "hidden", gone)


def test_rules_side_by_side(evalkit: Call, folder: Path) -> None:
    answers = {"1": "A", "2": "C", "3": "(b)", "1000001": "A"}
    (folder / "p.tsv").write_text("index\tprediction\n" + "".join(f"{k}\t{v}\n" for k, v in answers.items()))
    rules = "evalkit-2,vlmevalkit@2024,circular"
    done = evalkit("score", "--tasks", "mine.tsv", "-p", "p.tsv", "--rule", rules, "--out", "scored", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = {path.name: rows_of(path)["mine"] for path in (folder / "scored").iterdir()}
    assert found["p-evalkit-2"]["value"] == pytest.approx(75)
    assert found["p-vlmevalkit-2024"]["value"] == pytest.approx(50)
    assert found["p-circular"]["value"] == pytest.approx(100 * 2 / 3)
    assert found["p-circular"]["metric"] == "circular"
    done = evalkit("rescore", "scored/p-evalkit-2", "--rule", rules, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mine/own") == 3


def test_yes_no_rule(evalkit: Call, folder: Path) -> None:
    (folder / "p.jsonl").write_text('{"id": "1", "text": "yes"}\n{"id": "2", "text": "No, they differ."}\n')
    done = evalkit(
        "score", "--tasks", "yn.tsv", "-p", "p.jsonl", "--rule", "vlmevalkit-yes-no", "--name", "s", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert rows_of(folder / "runs" / "s")["yn"]["value"] == 100


def test_protocol_implies_vlmevalkits_rule(evalkit: Call, folder: Path) -> None:
    done = evalkit(*RUN, "--tasks", "mine.tsv", "--protocol", "vlmevalkit", "--name", "v", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "letters:vlmevalkit-2026-06|" in str(rows_of(folder / "runs" / "v")["mine"]["signature"])


def test_report_export_compare_and_check(evalkit: Call, folder: Path) -> None:
    for command in (
        ("report", "runs/x", "--out", "report"),
        ("export", "runs/x", "--to", "csv", "--out", "x.csv"),
        ("baseline", "runs/x", "--out", "base.json"),
        ("check", "runs/x", "--baseline", "base.json", "--mode", "exact"),
        ("leaderboard", "runs"),
    ):
        done = evalkit(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    assert len(list((folder / "report" / "images").iterdir())) == 6, "each image of a file once"
    assert "What color is the sky?" in (folder / "x.csv").read_text()
    assert str(folder) not in (folder / "base.json").read_text()
    shutil.copytree(folder / "runs" / "x", folder / "runs" / "y")
    done = evalkit("compare", "runs/x", "runs/y", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "mine/own" in done.stdout


def test_examples_come_from_another_file(evalkit: Call, folder: Path) -> None:
    table(folder / "shots.tsv", PLAIN, ("9", b64("green"), "What color is it?", "green"), ("10", "", "2 + 2?", "4"))
    common = (*RUN, "--tasks", "vqa.tsv", "--shots", "1", "--name", "s", "--shots-from")
    done = evalkit(*common, "shots.tsv", cwd=folder)
    assert done.returncode == 0, done.stderr
    journal = (folder / "runs" / "s" / "vqa.own.jsonl").read_text()
    assert all(json.loads(line)["shots"][0] in ("9", "10") for line in journal.splitlines()[1:])
    done = evalkit(*common, "vqa.tsv", cwd=folder)
    assert done.returncode == 2
    assert "vqa.tsv: this file is evaluated itself" in done.stderr


def test_corrupt_image_fails_its_sample_only(evalkit: Call, folder: Path) -> None:
    table(folder / "bad.tsv", PLAIN, ("1", RED[:-40], "What?", "red"), ("2", BLUE, "What?", "blue"))
    done = evalkit(*RUN, "--tasks", "bad.tsv", "--name", "b", cwd=folder)
    assert done.returncode == 1
    assert (rows_of(folder / "runs" / "b")["bad"]["n"], rows_of(folder / "runs" / "b")["bad"]["errors"]) == (1, 1)
    assert "1 sample failed" in done.stderr
    assert "bad.tsv[1]" in (folder / "runs" / "b" / "bad.own.jsonl").read_text()
    table(folder / "bad.tsv", PLAIN, ("1", RED, "What?", "red"), ("2", BLUE, "What?", "blue"))
    done = evalkit(*RUN, "--tasks", "bad.tsv", "--name", "b", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 answered" in done.stderr, "the other answer is kept"


def test_images_in_files_are_checked_before_the_run(evalkit: Call, folder: Path) -> None:
    table(folder / "paths.tsv", ("index", "image_path", "question", "answer"), ("1", "a.png", "What?", "red"))
    done = evalkit(*RUN, "--tasks", "paths.tsv", cwd=folder)
    assert done.returncode == 2
    message = " ".join(done.stderr.split())
    assert (
        f"paths/own: the image {folder}/a.png is missing; image_path is a path relative to {folder}/paths.tsv"
        in message
    )
    (folder / "p.jsonl").write_text('{"id": "1", "text": "red"}\n')
    done = evalkit("score", "--tasks", "paths.tsv", "-p", "p.jsonl", "--name", "p", cwd=folder)
    assert done.returncode == 0, done.stderr


def excel() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


HEADER = "\t".join(PLAIN)
OPTIONS = "index\timage\tquestion\tA\tB\tC\tanswer"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"index\timage\tanswer\n1\t{RED}\tx\n", "bad.tsv has no column question (it has 'index, image, answer')"),
        (f"index\timage\tquestion\n1\t{RED}\tx\n", "bad.tsv has no column answer"),
        ("index\tquestion\tanswer\n1\tx\ty\n", "bad.tsv has no column image (or image_path)"),
        (f"{OPTIONS}\n1\t{RED}\t?\tx\ty\t\tC\n", "line 2: the answer is 'C'; expected the letter of one of its options (A, B)"),
        (f"{OPTIONS}\n1\t{RED}\t?\tx\t\tz\tB\n", "line 2: the answer is 'B'; expected the letter of one of its options (A, C)"),
        (f"{OPTIONS}\n1\t{RED}\t?\tx\ty\tz\tx\n", "line 2: the answer is 'x'; expected the letter"),
        (f"{OPTIONS}\n1\t{RED}\t?\t\t\t\tred\n", "line 2: the question has 0 options in the columns A, B and so on"),
        (f"{HEADER}\n1\t{RED}\tx\ty\n2\t{RED}\tx\t\n", "line 3: the answer is empty"),
        (f"{HEADER}\n1\t{RED}\t\ty\n", "line 2: the question is empty"),
        ("<!DOCTYPE html>\n<html>404</html>\n", "bad.tsv is a web page (HTML)"),
        (f"{HEADER}\n1\t{RED}\tx\ty\n1\t{RED}\tx\ty\n", "line 3: the index 1 is already used in line 2"),
        (f"{HEADER}\n1\t{RED[:-1]}\tx\ty\n", "line 2: the image has"),
        (f"{HEADER}\n1\t{'%' * 80}\tx\ty\n", "line 2: the image is '%"),
        ("index\timage_path\tquestion\tanswer\n1\t../a.png\tx\ty\n", "line 2: the annotations name the image '../a.png', which is outside"),
        ("index\timage_path\tquestion\tanswer\n1\t/etc/a.png\tx\ty\n", "line 2: the annotations name the image '/etc/a.png', which is outside"),
        (f"{HEADER.replace(chr(9), ',')}\n1,{RED},x,y\n", "bad.tsv has no column index"),
        (excel(), "bad.tsv is a ZIP archive or an Excel file"),
        (b"", "bad.tsv is empty"),
        (f"{HEADER}\n", "bad.tsv has no rows"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [RUN, ("score", "-p", "p.jsonl"), ("tasks",)])
def test_faults_are_one_sentence(
    evalkit: Call, tmp_path: Path, command: Sequence[str], content: str | bytes, message: str
) -> None:
    (tmp_path / "bad.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "p.jsonl").write_text('{"id": "1", "text": "x"}\n')
    file = ("bad.tsv",) if command == ("tasks",) else ("--tasks", "bad.tsv")
    done = evalkit(*command, *file, cwd=tmp_path)
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert message in said, said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_missing_file_two_of_a_name_and_kind(evalkit: Call, folder: Path) -> None:
    done = evalkit("tasks", "none.tsv", cwd=folder)
    assert done.returncode == 2
    assert "none.tsv: the file cannot be read (No such file" in done.stderr
    (folder / "mine.jsonl").write_text('{"id": "1", "image": "1.png", "question": "?", "answers": ["x"]}\n')
    done = evalkit(*RUN, "--tasks", "mine.tsv,mine.jsonl", cwd=folder)
    assert done.returncode == 2
    assert "would both be called mine; rename one" in " ".join(done.stderr.split())
    done = evalkit(*RUN, "--tasks", "mine.tsv", "--kind", "grounding", cwd=folder)
    assert done.returncode == 2
    assert "--kind grounding: a TSV file" in done.stderr
