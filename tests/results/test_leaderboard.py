from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.results.folder import RunFolder
from evalkit.results.leaderboard import collect, entries_of, grid, notes, to_csv, to_json_text, to_markdown
from evalkit.results.store import read_scores


def _row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "task": "vqav2", "split": "val", "metric": "accuracy", "value": 85.234, "stderr": 1.0, "ci95": 1.96, "n": 300,
        "clusters": 60, "unparsed": 2, "errors": 0, "truncated": 1, "limited": False, "values": {}, "signature": "s|n:300",
    }  # fmt: skip
    return {**row, **changes}


def _save(root: Path, run: str, model: str, *rows: dict[str, object]) -> None:
    (root / run).mkdir(parents=True)
    content = {"schema": 1, "run": run, "model": model, "results": list(rows)}
    (root / run / "scores.json").write_text(json.dumps(content))


def test_one_run_shows_its_counts() -> None:
    header, rows = grid(entries_of("r", "tiny", [_row()]))
    assert header == ["task", "split", "metric", "tiny", "n", "unparsed", "cut off", "errors"]
    assert rows == [["vqav2", "val", "accuracy", "85.23 ± 1.96", "300", "2", "1", "0"]]


def test_runs_share_a_row_only_if_they_are_comparable(tmp_path: Path) -> None:
    _save(tmp_path, "a", "tiny", _row())
    _save(tmp_path, "b", "early", _row(value=50.0))
    _save(tmp_path, "c", "other", _row(signature="s|n:10", n=10))
    header, rows = grid(collect([tmp_path]))
    assert header == ["task", "split", "metric", "tiny", "early", "other", "n"]
    assert rows[0][3:] == ["85.23 ± 1.96", "50.00 ± 1.96", "", "300"]
    assert rows[1][3:] == ["", "", "85.23 ± 1.96", "10"]


def test_runs_of_one_model_are_headed_by_the_runs_name(tmp_path: Path) -> None:
    _save(tmp_path, "first", "tiny", _row())
    _save(tmp_path, "second", "tiny", _row())
    assert grid(collect([tmp_path]))[0][3:5] == ["first", "second"]
    assert grid(collect([tmp_path / "second"]))[0][3] == "tiny"


def test_no_samples_and_one_cluster_are_not_a_zero() -> None:
    _, rows = grid(entries_of("r", "tiny", [_row(value=None, ci95=None, n=0), _row(split="x", ci95=None, n=1)]))
    assert rows[0][3] == "–"
    assert rows[1][3] == "85.23"


def test_errors_are_marked_and_explained() -> None:
    entries = entries_of("r", "tiny", [_row(errors=3, limited=True)])
    assert grid(entries)[1][0][3].endswith("*")
    text = " ".join(notes(entries))
    assert "samples that failed are missing" in text
    assert "A subset" in text


def test_markdown_is_a_table_and_csv_and_json_keep_full_precision() -> None:
    entries = entries_of("r", "a|b", [_row(value=85.123456789)])
    lines = to_markdown(entries).splitlines()
    assert lines[0] == "| task | split | metric | a\\|b | n | unparsed | cut off | errors |"
    assert {line.replace("\\|", "").count("|") for line in lines[:3]} == {9}
    (row,) = csv.DictReader(io.StringIO(to_csv(entries)))
    assert (row["value"], row["model"], row["signature"]) == ("85.123456789", "a|b", "s|n:300")
    assert json.loads(to_json_text(entries))[0]["value"] == 85.123456789


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a scores file"),
        ("[]", "is not a scores file"),
        ('{"schema": 1}', "is not a scores file"),
        ('{"schema": 99, "results": []}', "schema 99, and this evalkit reads up to 2; upgrade"),
    ],
)
def test_a_damaged_or_newer_file_is_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_scores(tmp_path / "scores.json")


def test_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        collect([tmp_path])
    with pytest.raises(UserError, match="there is no folder"):
        collect([tmp_path / "absent"])


def test_runs_are_not_written_over_each_other_nor_into_packages(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "a")
    folder.write_manifest({"state": "running"})
    with pytest.raises(UserError, match="exists already"):
        RunFolder.create(tmp_path / "runs", "a")
    (tmp_path / "package" / "deep").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").touch()
    with pytest.raises(UserError, match="is a Python package"):
        RunFolder.create(tmp_path / "package" / "deep", "a")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        RunFolder.create(tmp_path / "file", "a")
