"""``evalkit baseline`` and ``evalkit check``: the gate."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .conftest import scored
from .test_compare import edited, mean_of, own, printed

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def held(evalkit: Evalkit, pair: Path) -> Path:
    done = evalkit("baseline", "runs/good", "--out", "ci/baseline.json", cwd=pair)
    assert done.returncode == 0, done.stderr
    assert "324 samples" in done.stdout
    return pair


def check(evalkit: Evalkit, cwd: Path, run: str, *options: str) -> subprocess.CompletedProcess[str]:
    return evalkit("check", f"runs/{run}", "--baseline", "ci/baseline.json", *options, cwd=cwd)


@pytest.mark.parametrize("mode", ["exact", "tolerance", "significant"])
def test_run_itself_passes_and_worse_one_fails(evalkit: Evalkit, held: Path, mode: str) -> None:
    assert check(evalkit, held, "good", "--mode", mode).returncode == 0
    done = check(evalkit, held, "bad", "--mode", mode)
    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_one_lost_sample_fails_only_where_that_is_asked(evalkit: Evalkit, held: Path) -> None:
    """1 of 324 is no significant loss; it is another answer, and 0.3 points."""
    scored(evalkit, held, "near", [*range(0, 324, 20), 1])
    assert check(evalkit, held, "near").returncode == 0
    exact = check(evalkit, held, "near", "--mode", "exact")
    assert exact.returncode == 1
    assert "1 answer is not the baseline's" in exact.stdout
    assert "vqav2/val: 1 of 324 samples changed" in printed(exact)
    assert "“nothing of the kind”" in exact.stdout
    assert check(evalkit, held, "near", "--mode", "tolerance", "--tolerance", "0.2").returncode == 1
    assert check(evalkit, held, "near", "--mode", "tolerance", "--tolerance", "0.4").returncode == 0


def test_better_run_passes(evalkit: Evalkit, held: Path) -> None:
    scored(evalkit, held, "best", [])
    for mode in ("tolerance", "significant"):
        assert check(evalkit, held, "best", "--mode", mode).returncode == 0


def test_margin_lets_a_small_significant_drop_pass(evalkit: Evalkit, held: Path) -> None:
    assert check(evalkit, held, "bad", "--margin", "10").returncode == 1
    assert check(evalkit, held, "bad", "--margin", "30").returncode == 0


def test_reports(evalkit: Evalkit, held: Path) -> None:
    for run, failures in (("bad", "1"), ("good", "0")):
        check(evalkit, held, run, "--junit", "out/junit.xml", "--summary", "out/summary.md")
        suite = ElementTree.parse(held / "out" / "junit.xml").getroot()[0]
        assert (suite.get("tests"), suite.get("failures")) == ("1", failures)
        assert suite[0].get("name") == "vqav2/val"
        text = (held / "out" / "summary.md").read_text()
        assert text.startswith(f"## evalkit check: {'failed, vqav2/val' if run == 'bad' else 'passed'}\n")
        assert ("nothing of the kind" in text) is (run == "bad")


def test_reports_of_hostile_ids_and_answers(evalkit: Evalkit, tmp_path: Path) -> None:
    ids = ("new\nline", "\x1b[31m", "<img src=x onerror=alert(1)>", "]]>&", "`|*_")
    own(evalkit, tmp_path, "a", 0, ids)
    own(evalkit, tmp_path, "b", 8, ids, answer="</details><script>\x00\n\n# head\n]]>")
    assert evalkit("baseline", "runs/a", cwd=tmp_path).returncode == 0
    done = evalkit("check", "runs/b", "--junit", "j.xml", "--summary", "s.md", cwd=tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    (case,) = ElementTree.parse(tmp_path / "j.xml").getroot()[0]
    assert len((case[0].text or "").splitlines()) == 9
    text = (tmp_path / "s.md").read_text()
    block = text.split("changed</summary>\n\n")[1].split("\n\n</details>")[0].splitlines()
    assert len(block) == 8
    assert all(line.startswith("    ") for line in block), "all of it is code"
    assert "new line: 100.0 → 0.0" in block[0]


@pytest.mark.parametrize(
    ("run", "reason"),
    [("bad", "the data differ"), ("absent", "is not a run folder"), ("empty", "the run is not finished")],
)
def test_reports_say_when_nothing_can_be_checked(evalkit: Evalkit, held: Path, run: str, reason: str) -> None:
    """Else the page would show the last check's."""
    check(evalkit, held, "good", "--junit", "j.xml", "--summary", "s.md")
    edited(held / "runs" / "bad", annotations="0" * 16)
    (held / "runs" / "empty").mkdir()
    (held / "runs" / "empty" / "manifest.json").write_text((held / "runs" / "bad" / "manifest.json").read_text())
    done = check(evalkit, held, run, "--junit", "j.xml", "--summary", "s.md")
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in printed(done)
    suite = ElementTree.parse(held / "j.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "1")
    assert reason in str(suite[0][0].get("message"))
    text = (held / "s.md").read_text()
    assert text.startswith("## evalkit check: not possible\n")
    assert reason in text


def test_github_step_summary_is_appended(evalkit: Evalkit, held: Path) -> None:
    page = held / "step.md"
    page.write_text("before\n")
    options = ("--baseline", "ci/baseline.json", "--summary", str(page))
    for _ in range(2):
        assert evalkit("check", "runs/good", *options, cwd=held, GITHUB_STEP_SUMMARY=str(page)).returncode == 0
    assert page.read_text().startswith("before\n## evalkit check: passed\n")
    assert page.read_text().count("## evalkit check") == 2
    assert evalkit("check", "runs/good", *options, cwd=held).returncode == 0
    assert page.read_text().count("## evalkit check") == 1, "any other file is written anew"


def test_run_of_which_every_sample_failed(evalkit: Evalkit, held: Path) -> None:
    edited(held / "runs" / "bad", value=None, n=0, errors=324)
    done = check(evalkit, held, "bad")
    assert done.returncode == 2
    assert "vqav2/val has no score: 324 samples failed" in printed(done)


def test_baseline_has_one_line_per_sample(evalkit: Evalkit, held: Path) -> None:
    text = (held / "ci" / "baseline.json").read_text()
    assert len(text) < 100 * 324
    assert len(text.splitlines()) == 324 + 4
    assert json.loads(text)["tasks"]["vqav2/val"]["samples"][0][0] == "1000"


def test_update_accepts_a_change(evalkit: Evalkit, held: Path) -> None:
    done = check(evalkit, held, "bad", "--update")
    assert done.returncode == 0
    assert "samples changed" in done.stdout
    assert check(evalkit, held, "bad", "--mode", "exact").returncode == 0
    assert check(evalkit, held, "good", "--mode", "exact").returncode == 1


def test_failed_samples_fail_gate(evalkit: Evalkit, held: Path) -> None:
    path = held / "runs" / "good" / "vqav2.val.scores.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[1:]))
    edited(held / "runs" / "good", n=323, errors=1, scores=None, value=mean_of(path))
    done = check(evalkit, held, "good")
    assert done.returncode == 1
    assert "1 samples failed in the run" in printed(done)
    assert "a baseline must be complete" in evalkit("baseline", "runs/good", cwd=held).stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"annotations": "0" * 16}, "the data differ"),
        ({"signature": "vqav2:val|v2|other|n:324"}, "the signatures differ"),
        ({"split": "train"}, "vqav2/val was not run"),
    ],
)
def test_incomparable_runs_neither_pass_nor_fail(
    evalkit: Evalkit, held: Path, change: dict[str, object], reason: str
) -> None:
    edited(held / "runs" / "bad", **change)
    done = check(evalkit, held, "bad")
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in printed(done)
    assert "--update" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file cannot be read"), ("{", "is not valid JSON"), ("[]", "is not a baseline"), ("{}", "is not a baseline"),
        ('{"kind": "evalkit baseline", "schema": 9}', "has schema 9, and this evalkit reads up to 3"),
        ('{"kind": "evalkit baseline", "schema": 1, "model": "m", "tasks": {"a": {"samples": [[1]]}}}', "is not a baseline"),
    ],
)  # fmt: skip
def test_corrupt_baselines_are_reported(evalkit: Evalkit, held: Path, content: str | None, said: str) -> None:
    file = held / "ci" / "baseline.json"
    file.unlink() if content is None else file.write_text(content)
    done = check(evalkit, held, "good")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_conflicting_options(evalkit: Evalkit, held: Path) -> None:
    for options in (("--mode", "close"), ("--alpha", "5"), ("--tolerance", "1"), ("--mode", "exact", "--margin", "1")):
        done = check(evalkit, held, "good", *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), options


@pytest.mark.slow
def test_bundled_checkpoints(evalkit: Evalkit, tmp_path: Path) -> None:
    """Early against final: found, and failed.  Final against itself at another batch size: passes."""
    for name, model, batch in (("final", "tiny", "16"), ("early", "tiny-early", "16"), ("again", "tiny", "5")):
        done = evalkit("run", "-t", "refcoco/testA,vqav2", "-m", model, "-b", batch, "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert evalkit("baseline", "runs/final", "--out", "ci/baseline.json", cwd=tmp_path).returncode == 0
    assert check(evalkit, tmp_path, "early").returncode == 1
    assert check(evalkit, tmp_path, "again").returncode == 0
    found = json.loads(evalkit("compare", "runs/final", "runs/early", "--format", "json", cwd=tmp_path).stdout)
    assert {row["verdict"] for row in found["compared"]} == {"worse"}
