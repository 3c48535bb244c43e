"""Scores are what evalkit wrote, of the answers that are there; anything else is refused, and old files are compared."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.cli.baseline import baseline
from evalkit.cli.check import CheckOptions, run_check
from evalkit.cli.rescore import rescore_run
from evalkit.errors import UserError
from evalkit.results.compare.baseline import read_baseline
from evalkit.results.leaderboard.rows import collect
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scored_run import ScoredRun
from evalkit.results.store.seal import check_seal, sealed

from ...run_folders import edit_json

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A scored run of eight samples, five of them right, over two tasks."""
    from evalkit.cli.score import ScoreOptions, score_files
    from evalkit.settings import effective

    Image.new("RGB", (56, 56)).save(tmp_path / "0.png")
    for task, right in (("a", 5), ("b", 8)):
        rows = [{"id": str(i), "image": "0.png", "question": "?", "answers": ["red"]} for i in range(8)]
        (tmp_path / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        texts = [{"id": str(i), "text": "red" if i < right else "x"} for i in range(8)]
        (tmp_path / f"{task}-answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    given = {
        "tasks": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], "out": str(tmp_path / "runs"), "name": "R",
        "model": ["none"], "data": "tiny",
    }  # fmt: skip
    files = [str(tmp_path / "a-answers.jsonl"), str(tmp_path / "b-answers.jsonl")]
    _, code = score_files(effective(given, tmp_path), ScoreOptions(files))
    assert code == 0
    return tmp_path / "runs" / "R"


def refused(run: Path, message: str) -> None:
    """The leaderboard and everything that opens the run say ``message``."""
    for open_run in (lambda: collect([run.parent]), lambda: ScoredRun.open(run)):
        with pytest.raises(UserError, match=message):
            open_run()


def test_what_was_written_is_read(run: Path) -> None:
    assert [entry.row.value for entry in collect([run.parent])] == [62.5, 100.0]
    opened = ScoredRun.open(run)
    assert [opened.sampled(name).values for name in opened.rows] == [[100.0] * 5 + [0.0] * 3, [100.0] * 8]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"value": 62.5', '"value": 72.5'),
        ('"n": 8', '"n": 9'),
        ('"errors": 0', '"errors": 1'),
        ('"model": "R"', '"model": "S"'),
        ('"limited": false', '"limited": true'),
    ],
)
def test_changed_score_is_refused_and_rescored(run: Path, old: str, new: str) -> None:
    file = run / "scores.json"
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new, 1))
    refused(run, "scores.json was changed since evalkit wrote it .*'evalkit rescore .*' writes it again")
    assert rescore_run(run, None) == 0
    assert [entry.row.value for entry in collect([run.parent])] == [62.5, 100.0]


@pytest.mark.parametrize(
    "change", [{"value": 72.5}, {"n": 9}, {"value": 99.0}, {"low": 70.0, "high": 80.0}, {"errors": "x"}, {"low": "x"}]
)
def test_score_without_checksum_is_compared_with_its_samples(run: Path, change: dict[str, Any]) -> None:
    """Versions before checksums wrote neither those nor the files' digests."""

    def without_digests(content: dict[str, Any]) -> None:
        for row in content["results"]:
            del row["journal"], row["scores"]

    edit_json(run / "scores.json", without_digests)
    assert [entry.row.value for entry in collect([run.parent])] == [62.5, 100.0]
    edit_json(run / "scores.json", lambda content: content["results"][0].update(change))
    refused(run, "rescore")


def test_score_of_other_answers_is_refused(run: Path) -> None:
    journal = run / "a.own.jsonl"
    whole = journal.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole.replace(b'"red"', b'"blue"')):
        journal.write_bytes(content)
        refused(run, "the score of a/own was computed from other answers than a.own.jsonl has now")
        assert run_or_code(lambda: run_check(run, run.parent / "none.json", CheckOptions())) == 2
    journal.unlink()  # where answers were deleted to save space, the score is all that is known
    assert len(collect([run.parent])) == 2


def run_or_code(call: Callable[[], int]) -> int:
    try:
        return call()
    except UserError:
        return 2


@pytest.mark.parametrize("value", ["NaN", True, None, "100.0", 99.0])
def test_changed_sample_is_refused(run: Path, value: object) -> None:
    file = run / "a.own.scores.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (metric,) = {row.metric for row in ScoredRun.open(run).rows.values()}
    lines[0][metric] = value
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="rescore"):
        ScoredRun.open(run).sampled("a/own")


def test_changed_manifest_is_refused_unless_that_was_meant(run: Path) -> None:
    file = run / "manifest.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(UserError, match="manifest.json was changed since evalkit wrote it .*delete its line"):
        RunFolder(run).read_manifest()
    lines = file.read_text().splitlines(keepends=True)
    assert lines[1].startswith('  "checksum": ')
    file.write_text("".join([lines[0], *lines[2:]]))
    assert RunFolder(run).read_manifest().settings["seed"] == 1


def test_changed_baseline_is_refused(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    baseline(run, file)
    assert run_check(run, file, CheckOptions()) == 0
    content = json.loads(file.read_text())
    for change in (
        lambda c: c["tasks"].pop("b/own"),
        lambda c: c["tasks"]["a/own"]["samples"].pop(),
        lambda c: c["tasks"]["a/own"]["samples"][0].__setitem__(3, 0.0),
        lambda c: c.update(model="another"),
    ):
        changed = json.loads(json.dumps(content))
        change(changed)
        file.write_text(json.dumps(changed))
        with pytest.raises(UserError, match="was changed since evalkit wrote it"):
            read_baseline(file)
    file.write_text(json.dumps(content, indent=7, sort_keys=True))  # the same content, laid out by another program
    assert set(read_baseline(file).tasks) == {"a/own", "b/own"}


@pytest.mark.parametrize("value", ["NaN", "1", True, None])
def test_score_in_old_baseline_is_number(run: Path, tmp_path: Path, value: object) -> None:
    file = tmp_path / "b.json"
    baseline(run, file)
    edit_json(file, lambda content: content["tasks"]["a/own"]["samples"][0].__setitem__(3, value))
    with pytest.raises(UserError, match="is not a baseline that evalkit wrote"):
        read_baseline(file)


def test_tasks_that_baseline_lacks_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "b.json"
    baseline(run, file)
    edit_json(file, lambda content: content["tasks"].pop("b/own"))  # an old baseline has no checksum
    options = CheckOptions(junit=tmp_path / "j.xml", summary=tmp_path / "s.md")
    assert run_check(run, file, options) == 0
    assert "Not checked, because the baseline lacks it: b/own." in capsys.readouterr().out
    assert '<skipped message="the baseline lacks it"' in (tmp_path / "j.xml").read_text()
    assert "passed (1 of 2 tasks checked)" in (tmp_path / "s.md").read_text()


def test_checksum_does_not_depend_on_layout(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None, "é\udcff"], "a": {"x": 1e300}}
    written = sealed(content)
    assert check_seal(json.loads(json.dumps(written, indent=3, sort_keys=True)), tmp_path, "")
    assert not check_seal(content, tmp_path, "")
