"""``evalkit compare`` and ``evalkit leaderboard`` as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import pytest

from evalkit.api import load_task
from evalkit.data import bundled_root

from ..run_folders import edit_json
from .conftest import scored

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


def printed(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_real_difference_is_significant(evalkit: Evalkit, pair: Path) -> None:
    done = evalkit("compare", "runs/good", "runs/bad", "--format", "csv", cwd=pair)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    values = {
        r.name: json.loads((r / "scores.json").read_text())["results"][0]["value"] for r in (pair / "runs").iterdir()
    }
    assert float(row["difference"]) == pytest.approx(values["bad"] - values["good"])
    assert (row["verdict"], row["wins"], row["ties"]) == ("worse", "0", str(324 - int(row["losses"])))
    assert float(row["p_holm"]) == float(row["p"]) < 0.01, "one task needs no correction"
    back = evalkit("compare", "runs/bad", "runs/good", "--format", "csv", cwd=pair)
    (other,) = csv.DictReader(io.StringIO(back.stdout))
    assert float(other["difference"]) == -float(row["difference"])
    assert other["verdict"] == "better"


def test_run_against_itself_shows_no_difference(evalkit: Evalkit, pair: Path) -> None:
    done = evalkit("compare", "runs/good", "runs/good", cwd=pair, COLUMNS="80")
    assert done.returncode == 0
    assert "not shown" in done.stdout
    assert "1.000" in done.stdout
    assert "±" not in done.stdout.split("Wins, losses")[0], "no spread is no certainty"
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_flips_show_image_and_both_answers(evalkit: Evalkit, pair: Path) -> None:
    done = evalkit("compare", "runs/good", "runs/bad", "--show-flips", "2", cwd=pair)
    assert done.stdout.count("image: ") == 2
    assert done.stdout.count("nothing of the kind") == 2
    image = done.stdout.split("image: ")[1].split("\n")[0]
    assert Path(image).is_file()
    content = json.loads(
        evalkit("compare", "runs/good", "runs/bad", "--show-flips", "2", "--format", "json", cwd=pair).stdout
    )
    assert [f["candidate_answer"] for f in content["flips"]] == ["nothing of the kind"] * 2


def test_three_runs_are_each_compared_with_first_and_corrected_together(evalkit: Evalkit, pair: Path) -> None:
    scored(evalkit, pair, "same", range(0, 324, 20))
    done = evalkit("compare", "runs/good", "runs/bad", "runs/same", "--format", "csv", cwd=pair)
    rows = {Path(r["candidate"]).name: r for r in csv.DictReader(io.StringIO(done.stdout))}
    assert float(rows["bad"]["p_holm"]) == pytest.approx(2 * float(rows["bad"]["p"]))
    assert rows["same"]["verdict"] == "not shown"


@pytest.mark.parametrize("format", ["md", "latex", "html", "json", "csv"])
def test_formats(evalkit: Evalkit, pair: Path, format: str) -> None:
    done = evalkit("compare", "runs/good", "runs/bad", "--format", format, "--out", "out", cwd=pair)
    assert done.returncode == 0, done.stderr
    (file,) = (pair / "out").iterdir()
    assert file.name == f"comparison.{'tex' if format == 'latex' else format}"
    assert "vqav2/val" in file.read_text()
    assert {"latex": r"\toprule", "html": "<table>", "md": "| task |"}.get(format, "vqav2") in file.read_text()


def test_other_data_are_refused_and_shown_by_force_marked(evalkit: Evalkit, pair: Path) -> None:
    shutil.copytree(bundled_root(), pair / "data")
    file = pair / "data" / "vqav2" / "v2_mscoco_val2014_annotations.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["answers"] = [{**a, "answer": "other"} for a in content["annotations"][0]["answers"]]
    file.write_text(json.dumps(content))
    scored(evalkit, pair, "corrected", range(0, 324, 20), "data")
    done = evalkit("compare", "runs/good", "runs/corrected", cwd=pair)
    assert done.returncode == 2
    assert "vqav2/val: runs/good and runs/corrected are not comparable: the data differ (annotations" in printed(done)
    forced = evalkit("compare", "runs/good", "runs/corrected", "--force", cwd=pair)
    assert forced.returncode == 0
    assert forced.stdout.count("vqav2/val!") == 2, "in both tables"
    assert forced.stdout.count("not comparable") == 2, "as the verdict, and below with the reason"
    assert "not comparable, shown because of --force: the data differ" in printed(forced)
    table = evalkit("leaderboard", cwd=pair).stdout
    assert "vqav2/val (n=324) #1" in table, "nor do they share a column"


def mean_of(scores: Path) -> float:
    return fmean(json.loads(line)["accuracy"] for line in scores.read_text().splitlines())


def edited(run: Path, **changes: object) -> None:
    edit_json(run / "scores.json", lambda content: content["results"][0].update(changes))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("vqav2:val|v1|vqa|norm:official|n:324", "vqav2:val|v2|vqa|norm:other|n:324", "v1|norm:official and v2|norm:other"),
        ("vqav2:val|v1|protocol:official|shots:0|vqa|n:324", "vqav2:val|v1|protocol:lmms-eval|shots:4|vqa|n:324",
         "the protocols differ (protocol official and lmms-eval, shots 0 and 4)"),
    ],
)  # fmt: skip
def test_other_scorers_and_protocols_are_refused(
    evalkit: Evalkit, pair: Path, first: str, second: str, reason: str
) -> None:
    edited(pair / "runs" / "good", signature=first)
    edited(pair / "runs" / "bad", signature=second)
    done = evalkit("compare", "runs/good", "runs/bad", cwd=pair)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in printed(done)


def test_scored_predictions_are_compared_with_a_run(evalkit: Evalkit, pair: Path) -> None:
    for name, asked in (("good", "protocol:official|shots:0|"), ("bad", "")):
        edited(pair / "runs" / name, signature=f"vqav2:val|v1|{asked}vqa|n:324")
    assert evalkit("compare", "runs/good", "runs/bad", cwd=pair).returncode == 0


def test_other_samples_are_refused_and_joined_by_id_when_forced(evalkit: Evalkit, pair: Path) -> None:
    path = pair / "runs" / "bad" / "vqav2.val.scores.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(line + "\n" for line in reversed(lines[1:])))  # another order changes nothing
    edited(pair / "runs" / "bad", n=323, scores=None, value=mean_of(path))
    done = evalkit("compare", "runs/good", "runs/bad", cwd=pair)
    assert done.returncode == 2
    assert "the samples differ: 1 only in the first (1000)" in printed(done)
    forced = evalkit("compare", "runs/good", "runs/bad", "--force", "--format", "csv", cwd=pair)
    (row,) = csv.DictReader(io.StringIO(forced.stdout))
    assert (row["n"], row["verdict"]) == ("323", "not comparable")


def own(evalkit: Evalkit, cwd: Path, name: str, wrong: int, ids: Sequence[str] = (), **said: str) -> None:
    """A run over a task of one's own, ``my file.jsonl``: 40 questions, each about its own image."""
    names = [*ids, *(f"q{i}" for i in range(len(ids), 40))]
    rows = [{"id": n, "image": f"p{i}.png", "question": "?", "answers": ["yes"]} for i, n in enumerate(names)]
    for row in rows:
        shutil.copy(bundled_root() / "coco" / "val2014" / "COCO_val2014_000000000001.jpg", cwd / str(row["image"]))
    (cwd / "my file.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [said.get("answer", "no") if i < wrong else "yes" for i in range(40)]
    answers = [{"id": n, "text": text} for n, text in zip(names, texts, strict=True)]
    (cwd / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    done = evalkit("score", "-t", "./my file.jsonl", "-p", f"{name}.jsonl", "--name", name, cwd=cwd)
    assert done.returncode == 0, done.stderr


def test_task_whose_name_has_blank_is_corrected_as_others_are(evalkit: Evalkit, tmp_path: Path) -> None:
    for name, wrong in (("a", 0), ("b", 9), ("c", 12)):
        own(evalkit, tmp_path, name, wrong)
    done = evalkit("compare", "runs/a", "runs/b", "runs/c", "--format", "csv", cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["task"] for row in rows] == ["my file/own"] * 2
    assert [float(row["p_holm"]) for row in rows] == pytest.approx(sorted((0.5**8, 2 * 0.5**11), reverse=True))
    assert float(rows[0]["detectable"]) == pytest.approx(3.0830 * float(rows[0]["stderr"]), rel=1e-3), "at 5 % / 2"


def test_answers_cannot_control_the_terminal(evalkit: Evalkit, tmp_path: Path) -> None:
    ids = ("new\nline", "\x1b[31mred", "<b>|`x`")
    own(evalkit, tmp_path, "a", 0, ids)
    own(evalkit, tmp_path, "b", 3, ids, answer="\x1b]0;title\x07 no\rmore")
    shown = evalkit("compare", "runs/a", "runs/b", "--show-flips", "3", cwd=tmp_path).stdout
    assert "\x1b" not in shown
    assert shown.count("  B: \ufffd]0;title\ufffd no more\n") == 3
    assert "my file/own new line: 100.0 → 0.0\n" in shown
    markdown = evalkit("compare", "runs/a", "runs/b", "--show-flips", "3", "--format", "md", cwd=tmp_path).stdout
    assert r"| \<b>\|\`x\` | yes |" in markdown


def test_flips_in_csv_and_json_name_the_run(evalkit: Evalkit, pair: Path) -> None:
    scored(evalkit, pair, "worse", range(0, 324, 3))
    runs = ("runs/good", "runs/bad", "runs/worse")
    done = evalkit("compare", *runs, "--show-flips", "2", "--format", "csv,json", "--out", "o", cwd=pair)
    assert done.returncode == 0, done.stderr
    with (pair / "o" / "comparison-flips.csv").open() as file:
        rows = list(csv.DictReader(file))
    flips = json.loads((pair / "o" / "comparison.json").read_text())["flips"]
    for found in (rows, flips):
        assert [row["run"] for row in found] == ["runs/bad"] * 2 + ["runs/worse"] * 2
        assert all(float(row["base"]) == 100 and float(row["candidate"]) == 0 for row in found)
        assert all(Path(row["image"]).is_file() for row in found)
    refused = evalkit("compare", *runs, "--show-flips", "2", "--format", "csv", cwd=pair)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "makes a second table: add --out FOLDER" in refused.stderr


def test_unshared_samples_are_reported_once(evalkit: Evalkit, pair: Path) -> None:
    file = pair / "runs" / "good" / "scores.json"
    edit_json(file, lambda c: c["results"].extend([{**c["results"][0], "split": split} for split in ("x", "y")]))
    done = evalkit("compare", "runs/good", "runs/bad", "--format", "md", cwd=pair)
    assert done.returncode == 0
    assert "- only in runs/good: vqav2/x, vqav2/y." in done.stdout


def test_report_names_refused_comparisons(evalkit: Evalkit, pair: Path) -> None:
    content = json.loads((pair / "runs" / "bad" / "scores.json").read_text())
    other = {**content["results"][0], "split": "x"}
    for run, signature in (("good", "v:x|v1|s"), ("bad", "v:x|v2|s")):
        row = {**other, "signature": signature}
        edit_json(pair / "runs" / run / "scores.json", lambda content, row=row: content["results"].append(row))
    done = evalkit("compare", "runs/good", "runs/bad", "--format", "md", cwd=pair)
    assert done.returncode == 1
    assert "- vqav2/x: runs/good and runs/bad are not comparable: the signatures differ (v1 and v2)." in done.stdout
    assert "refused: vqav2/x" in done.stderr


def test_old_runs_without_column_still_read(evalkit: Evalkit, tmp_path: Path) -> None:
    """Until METEOR and parse_rate had intervals, RefCOCO's samples had no ``parse_rate``."""
    box = '{"bbox_2d": [1, 1, 40, 40]}'
    rows = [{"id": s.id, "text": box} for s in load_task("refcoco/val", data="tiny")]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("old", "new"):
        call = ("score", "-t", "refcoco/val", "-p", "p.jsonl", "--family", "qwen2.5-vl", "--data", "tiny")
        done = evalkit(*call, "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    file = tmp_path / "runs" / "old" / "refcoco.val.scores.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(line.pop("parse_rate") == 100 for line in lines)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    edited(file.parent, scores=None)
    assert evalkit("compare", "runs/old", "runs/new", cwd=tmp_path).returncode == 0
    assert evalkit("baseline", "runs/old", cwd=tmp_path).returncode == 0
    assert evalkit("check", "runs/new", "--mode", "exact", cwd=tmp_path).returncode == 0
    done = evalkit("rescore", "runs/old", cwd=tmp_path)
    assert "refcoco/val: unchanged" in printed(done), "a new column is no change of a sample"
    assert file.read_text() == (tmp_path / "runs" / "new" / file.name).read_text()


def test_usage_errors_are_reported(evalkit: Evalkit, pair: Path) -> None:
    def fails(*arguments: str) -> str:
        done = evalkit("compare", *arguments, cwd=pair)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "give at least two runs" in fails("runs/good")
    assert "runs is not a run folder (no manifest.json)" in fails("runs/good", "runs")
    assert "--format xls: unknown; use one of table, md, csv, json, html, latex" in fails(
        "runs/good", "runs/bad", "--format", "xls"
    )
    path = pair / "runs" / "bad" / "vqav2.val.scores.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"accuracy": ', '"accuracy": "x', 1))
    assert "line 1" in fails("runs/good", "runs/bad")
    path.write_text(whole.splitlines()[0] + "\n")
    assert "has 1 samples and scores.json says 324" in fails("runs/good", "runs/bad")
    path.unlink()
    assert "the file cannot be read" in fails("runs/good", "runs/bad")
    (pair / "runs" / "bad" / "scores.json").unlink()
    assert "the run is not finished" in fails("runs/good", "runs/bad")


def test_leaderboard_of_two_models(evalkit: Evalkit, pair: Path) -> None:
    for format in ("md", "html", "latex", "csv", "json"):
        done = evalkit("leaderboard", "--format", format, "--published", "--reproduce", "auto", "--means", cwd=pair)
        assert done.returncode == 0, done.stderr
        assert "good" in done.stdout
    sorted_ = evalkit("leaderboard", "--sort", "vqav2", "--format", "md", cwd=pair).stdout
    assert sorted_.index("| good |") < sorted_.index("| bad |")
    wrong = evalkit("leaderboard", "--sort", "x", cwd=pair)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "add --out FOLDER" in evalkit("leaderboard", "--format", "png", cwd=pair).stderr
    assert "training step" in evalkit("leaderboard", "--trend", cwd=pair).stderr
