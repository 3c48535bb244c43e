"""``evalkit compare`` and ``evalkit leaderboard`` as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from evalkit.api import load_task
from evalkit.data import bundled_root

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


def told(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def scored(evalkit: Evalkit, cwd: Path, name: str, wrong: Sequence[int], data: str = "tiny") -> Path:
    """A run over VQAv2 val whose answers are right but for every so-and-so-many-th of ``wrong``."""
    rows = [
        {"id": s.id, "text": "nothing of the kind" if i in wrong else s.references[0]}
        for i, s in enumerate(load_task("vqav2/val", data=str(cwd / data) if data != "tiny" else data))
    ]
    (cwd / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = evalkit("score", "-t", "vqav2/val", "-p", f"{name}.jsonl", "--data", data, "--name", name, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / name


@pytest.fixture
def pair(evalkit: Evalkit, tmp_path: Path) -> Path:
    scored(evalkit, tmp_path, "good", range(0, 324, 20))
    scored(evalkit, tmp_path, "bad", range(0, 324, 4))
    return tmp_path


def test_a_real_difference_is_found(evalkit: Evalkit, pair: Path) -> None:
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


def test_a_run_against_itself_shows_no_difference(evalkit: Evalkit, pair: Path) -> None:
    done = evalkit("compare", "runs/good", "runs/good", cwd=pair, COLUMNS="80")
    assert done.returncode == 0
    assert "not shown" in done.stdout
    assert "1.000" in done.stdout
    assert "±" not in done.stdout.split("What the samples")[0], "no spread is no certainty"
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_flipped_is_shown_with_its_picture_and_both_answers(evalkit: Evalkit, pair: Path) -> None:
    done = evalkit("compare", "runs/good", "runs/bad", "--show-flips", "2", cwd=pair)
    assert done.stdout.count("picture: ") == 2
    assert done.stdout.count("nothing of the kind") == 2
    picture = done.stdout.split("picture: ")[1].split("\n")[0]
    assert Path(picture).is_file()
    content = json.loads(
        evalkit("compare", "runs/good", "runs/bad", "--show-flips", "2", "--format", "json", cwd=pair).stdout
    )
    assert [f["candidate_answer"] for f in content["flips"]] == ["nothing of the kind"] * 2


def test_three_runs_are_each_compared_with_the_first_and_corrected_together(evalkit: Evalkit, pair: Path) -> None:
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
    assert "vqav2/val: runs/good and runs/corrected are not comparable: the data differ (annotations" in told(done)
    forced = evalkit("compare", "runs/good", "runs/corrected", "--force", cwd=pair)
    assert forced.returncode == 0
    assert "vqav2/val!" in forced.stdout
    assert "not comparable, shown by --force: the data differ" in told(forced)
    table = evalkit("leaderboard", cwd=pair).stdout
    assert "vqav2/val (n=324) #1" in table, "nor do they share a column"


def edited(run: Path, **changes: object) -> None:
    content = json.loads((run / "scores.json").read_text())
    content["results"][0].update(changes)
    (run / "scores.json").write_text(json.dumps(content))


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
    assert reason in told(done)


def test_answers_from_elsewhere_may_be_compared_with_a_run(evalkit: Evalkit, pair: Path) -> None:
    for name, asked in (("good", "protocol:official|shots:0|"), ("bad", "")):
        edited(pair / "runs" / name, signature=f"vqav2:val|v1|{asked}vqa|n:324")
    assert evalkit("compare", "runs/good", "runs/bad", cwd=pair).returncode == 0


def test_other_samples_are_refused_and_joined_by_id_when_forced(evalkit: Evalkit, pair: Path) -> None:
    path = pair / "runs" / "bad" / "vqav2.val.scores.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(line + "\n" for line in reversed(lines[1:])))  # another order changes nothing
    edited(pair / "runs" / "bad", n=323)
    done = evalkit("compare", "runs/good", "runs/bad", cwd=pair)
    assert done.returncode == 2
    assert "the samples differ: 1 only in the first (1000)" in told(done)
    forced = evalkit("compare", "runs/good", "runs/bad", "--force", "--format", "csv", cwd=pair)
    (row,) = csv.DictReader(io.StringIO(forced.stdout))
    assert (row["n"], row["verdict"]) == ("323", "not comparable")


def test_mistakes_are_sentences(evalkit: Evalkit, pair: Path) -> None:
    def fails(*arguments: str) -> str:
        done = evalkit("compare", *arguments, cwd=pair)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "give two runs or more" in fails("runs/good")
    assert "runs is no run: it has no manifest.json" in fails("runs/good", "runs")
    assert "--format xls: there are table, md, csv, json, html, latex" in fails(
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
    assert "the run has not ended yet" in fails("runs/good", "runs/bad")


def test_the_leaderboard_of_two_models(evalkit: Evalkit, pair: Path) -> None:
    for format in ("md", "html", "latex", "csv", "json"):
        done = evalkit("leaderboard", "--format", format, "--published", "--reproduce", "--means", cwd=pair)
        assert done.returncode == 0, done.stderr
        assert "good" in done.stdout
    sorted_ = evalkit("leaderboard", "--sort", "vqav2", "--format", "md", cwd=pair).stdout
    assert sorted_.index("| good |") < sorted_.index("| bad |")
    wrong = evalkit("leaderboard", "--sort", "x", cwd=pair)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "give --out FOLDER" in evalkit("leaderboard", "--format", "png", cwd=pair).stderr
    assert "training step" in evalkit("leaderboard", "--trend", cwd=pair).stderr
