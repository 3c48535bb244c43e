from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from evalkit.errors import UserError
from evalkit.results.html import page
from evalkit.results.leaderboard.rows import Entry, collect, columns_of
from evalkit.results.leaderboard.rows import entries_of as entries_of_rows
from evalkit.results.leaderboard.table import grid, in_order, models_table, notes, to_csv, to_json_text, to_markdown
from evalkit.results.store.manifest import Manifest
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scores import read_scores
from evalkit.results.tables import Table, latex
from evalkit.results.terminal import in_blocks
from evalkit.task_groups import MEANS


def _row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "task": "vqav2", "split": "val", "metric": "accuracy", "value": 85.234, "stderr": 1.0, "ci95": 1.96, "n": 300,
        "clusters": 60, "unparsed": 2, "errors": 0, "truncated": 1, "limited": False, "values": {}, "signature": "s|n:300",
    }  # fmt: skip
    return {**row, **changes}


def entries_of(run: str, model: str, rows: Sequence[Mapping[str, object]]) -> list[Entry]:
    return entries_of_rows(run, model, [ScoreRow.from_dict(row) for row in rows])


def texts(table: Table) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in table.rows]


def _save(root: Path, run: str, model: str, *rows: dict[str, object]) -> None:
    (root / run).mkdir(parents=True)
    content = {"schema": 1, "run": run, "model": model, "results": list(rows)}
    (root / run / "scores.json").write_text(json.dumps(content))


def test_one_run_shows_its_counts() -> None:
    header, rows = grid(entries_of("r", "tiny", [_row()]))
    assert header == ["task", "split", "metric", "tiny", "n", "unparsed", "truncated", "errors"]
    assert rows == [["vqav2", "val", "accuracy", "85.23 ± 1.96", "300", "2", "1 (0.3 %)", "0"]]
    header, rows = grid(entries_of("r", "tiny", [_row(reasoning_tokens=1234.56), _row()]))
    assert header[-2:] == ["errors", "reasoning"]
    assert [row[-1] for row in rows] == ["1,234.6", "–"]


def test_runs_share_column_only_if_they_are_comparable(tmp_path: Path) -> None:
    _save(tmp_path, "a", "tiny", _row())
    _save(tmp_path, "b", "early", _row(value=50.0))
    _save(tmp_path, "c", "other", _row(signature="s|n:10", n=10))
    table = models_table(collect([tmp_path]))
    assert list(table.header) == ["model", "vqav2/val (n=300)", "vqav2/val (n=10)"]
    assert texts(table) == [
        ["tiny", "85.23 ± 1.96", ""],
        ["early", "50.00 ± 1.96", ""],
        ["other", "", "85.23 ± 1.96"],
    ]


@pytest.mark.parametrize(
    "other",
    [{"annotations": "b" * 16}, {"samples": "d" * 12}, {"signature": "x|n:300"}, {"metric": "anls"}, {"split": "test"}],
)
def test_incomparable_scores_get_separate_columns(other: dict[str, object]) -> None:
    """The data's digest, the samples, the metric's variant: bundled or limited rows never stand with full ones."""
    row = _row(annotations="a" * 16, samples="c" * 12)
    entries = [*entries_of("r", "a", [row]), *entries_of("s", "b", [{**row, **other}])]
    columns = columns_of(entries)
    assert len(columns) == len({c.label for c in columns}) == 2


def test_prompting_is_a_footnote_not_a_column() -> None:
    asked = [
        _row(signature=f"t:val|v1|protocol:{p}|shots:{n}|parsing:3|acc|v1|n:300")
        for p, n in (("official", 0), ("other", 4))
    ]
    elsewhere = _row(signature="t:val|v1|acc|v1|n:300", unparsed=0)
    entries = [e for run, row in zip("abc", [*asked, elsewhere], strict=True) for e in entries_of(run, run, [row])]
    assert len(columns_of(entries)) == 1
    note = notes(entries)[-1]
    for part in ("protocol official, shots 0 (a)", "protocol other, shots 4 (b)", "answers scored from a file (c)"):
        assert part in note
    assert "unparsed: a 2, b 2" in note
    assert "n=300" in note


def test_best_is_bold_and_ties_are_marked() -> None:
    scores = {"best": 90.0, "near": 88.0, "far": 80.0}
    entries = [e for name, value in scores.items() for e in entries_of(name, name, [_row(value=value)])]
    cells = [row[1] for row in models_table(entries).rows]
    assert [(str(c), getattr(c, "bold", False)) for c in cells] == [
        ("90.00 ± 1.96", True), ("88.00 ± 1.96 ≈", False), ("80.00 ± 1.96", False),
    ]  # fmt: skip
    assert "**90.00 ± 1.96**" in to_markdown(entries)


def test_sorting() -> None:
    scores = {"ckpt-1000": 80.0, "ckpt-900": 90.0, "none": None}
    entries = [e for name, value in scores.items() for e in entries_of(name, name, [_row(value=value)])]

    def names(sort: str | None) -> list[str]:
        return [row[0] for row in texts(models_table(entries, sort=sort))]

    assert names(None) == ["ckpt-1000", "ckpt-900", "none"]
    assert names("model") == ["ckpt-900", "ckpt-1000", "none"]
    assert names("vqav2") == names("vqav2/val") == ["ckpt-900", "ckpt-1000", "none"]
    with pytest.raises(UserError, match="--sort nothing: give model, run, or a column: vqav2/val"):
        names("nothing")


def test_group_means_need_complete_groups() -> None:
    rows = [_row(task=t, signature=t, value=v) for t, v in (("vqav2", 80.0), ("okvqa", 60.0), ("textvqa", 10.0))]
    entries = [*entries_of("a", "a", rows), *entries_of("b", "b", rows[:1])]
    table = models_table(entries, means=True)
    assert table.header[-1] == "vqa (mean of 2)"
    assert [row[-1] for row in texts(table)] == ["70.00 ± 1.96", ""]
    assert "vqa (mean of 2): vqav2/val, okvqa/val, unweighted" in table.notes[-1]
    assert "they share images" in table.notes[-1]
    apart = [*rows[2:], _row(task="docvqa", signature="docvqa", value=50.0)]
    table = models_table([*entries_of("a", "a", apart), *entries_of("b", "b", apart)], means=True)
    assert texts(table)[0][-1] == "30.00 ± 1.39", "other images: errors that are independent"
    assert "independent" in table.notes[-1]


def test_group_mean_is_within_scale_and_sortable() -> None:
    def run(name: str, first: float, second: float) -> list[Entry]:
        rows = [_row(task=t, signature=t, value=v) for t, v in (("textvqa", first), ("docvqa", second))]
        return entries_of(name, name, rows)

    entries = [*run("low", 90.0, 10.0), *run("high", 99.5, 99.9)]
    for sort in ("text-reading", "text-reading (mean of 2)"):
        table = models_table(entries, means=True, sort=sort)
        assert [(row[0], row[-1]) for row in texts(table)] == [("high", "99.70 [98.3, 100.0]"), ("low", "50.00 ± 1.39")]
        assert [e.run for e in in_order(entries, sort, means=True)] == ["high", "high", "low", "low"]


def test_group_whose_mean_runs_have_gets_no_other() -> None:
    splits = [name.split("/") for name in MEANS["refcoco-all"]]
    rows = [_row(task=task, split=split, signature=f"{task}:{split}", metric="acc@0.5") for task, split in splits]
    mean = _row(task="refcoco-all", split="mean of 8", signature="refcoco-all:mean|splits:8|x", metric="acc@0.5")
    for own, last in (([mean], "refcoco-all/mean of 8"), ([], "grounding (mean of 8)")):
        entries = [*entries_of("a", "a", [*rows, *own]), *entries_of("b", "b", [*rows, *own])]
        table = models_table(entries, means=True)
        assert table.header[-1] == last
    entries = [*entries_of("a", "a", [*rows, mean]), *entries_of("b", "b", [*rows, mean])]
    assert "unweighted mean of splits" in notes(entries)[-1]
    assert "from elsewhere" not in notes(entries)[-1]


def test_equal_scores_are_all_best() -> None:
    entries = [e for name in "ab" for e in entries_of(name, name, [_row()])]
    assert [(str(row[1]), getattr(row[1], "bold", False)) for row in models_table(entries).rows] == [
        ("85.23 ± 1.96", True), ("85.23 ± 1.96", True),
    ]  # fmt: skip


def test_runs_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for folder, value in (("x/runs", 80.0), ("y/runs", 90.0)):
        _save(tmp_path / folder, "gate", "tiny", _row(value=value))
    _save(tmp_path / "y/runs", "other", "tiny", _row(value=70.0))
    entries = collect([tmp_path / "x" / "runs", tmp_path / "y" / "runs"])
    assert [(e.run, e.row.value) for e in entries] == [
        ("x/runs/gate", 80.0), ("y/runs/gate", 90.0), ("other", 70.0),
    ]  # fmt: skip
    assert len(models_table(entries).rows) == 3


def test_runs_without_task_are_reported(tmp_path: Path) -> None:
    _save(tmp_path, "a", "tiny")
    with pytest.raises(UserError, match="there is no score in"):
        collect([tmp_path])


def test_notes_explain_only_printed_symbols() -> None:
    assert not any("±" in note for note in notes(entries_of("r", "m", [_row(stderr=None, ci95=None)])))
    one = notes(entries_of("r", "m", [_row()]), ranked=True)
    assert "unparsed: m 2" in one[-1], "a run alone in a table of columns"


def test_runs_of_one_model_are_headed_by_runs_name(tmp_path: Path) -> None:
    _save(tmp_path, "first", "tiny", _row())
    _save(tmp_path, "second", "tiny", _row())
    assert [row[0] for row in texts(models_table(collect([tmp_path])))] == ["first", "second"]
    assert grid(collect([tmp_path / "second"]))[0][3] == "tiny"
    assert len(collect([tmp_path, tmp_path / "second"])) == 2, "a run that is named twice is there once"


def test_perfect_score_has_an_interval() -> None:
    perfect = _row(value=100.0, stderr=0.0, ci95=None, low=96.3, high=100.0, interval="wilson")
    entries = entries_of("r", "tiny", [perfect])
    assert grid(entries)[1][0][3] == "100.00 [96.3, 100.0]"
    assert any("Wilson" in note for note in notes(entries))
    old = entries_of("r", "tiny", [_row(value=100.0, stderr=0.0, ci95=0.0)])
    assert grid(old)[1][0][3] == "100.00", "an older run's ± 0.00 is not repeated"


def test_latex_and_html_keep_content() -> None:
    entries = [e for m in ("a_b & <i>", "c") for e in entries_of(m, m, [_row(metric="acc@0.5")])]
    tex, html = latex([models_table(entries)]), page([models_table(entries)], "Leaderboard")
    assert "\\toprule" in tex
    assert r"a\_b \& $<$i$>$ & \textbf{85.23 $\pm$ 1.96} \\" in tex
    assert "a_b &amp; &lt;i&gt;" in html
    assert "<i>" not in html
    assert "http" not in html


@pytest.mark.parametrize("width", [40, 60, 200])
def test_wide_table_comes_in_blocks_that_fit(width: int) -> None:
    rows = [_row(task=f"task{i}", signature=f"s{i}") for i in range(9)]
    table = models_table([*entries_of("a", "a", rows), *entries_of("b", "b", rows)])
    blocks = in_blocks(table, width)
    assert [name for block in blocks for name in block.header[1:]] == list(table.header[1:])
    assert all(sum(2 + len(str(cell)) for cell in row) <= width for block in blocks for row in block.rows)
    assert len(blocks) == {40: 9, 60: 3, 200: 1}[width] or width == 40


def test_fifty_runs_are_fast(tmp_path: Path) -> None:
    rows = [_row(task=f"task{i}", signature=f"s{i}|n:214354", n=214_354) for i in range(20)]
    for run in range(50):
        _save(tmp_path, f"r{run}", f"m{run}", *rows)
    began = time.monotonic()
    text = to_markdown(collect([tmp_path]))
    assert time.monotonic() - began < 5
    assert text.count("± 1.96") == 1000


def test_corrupt_rows_are_reported(tmp_path: Path) -> None:
    _save(tmp_path, "a", "tiny", {"task": "x"})
    with pytest.raises(UserError, match=r"scores.json is corrupt \(a result has no 'split'\); 'evalkit rescore"):
        collect([tmp_path])


def test_no_samples_and_one_cluster_are_not_zero() -> None:
    _, rows = grid(entries_of("r", "tiny", [_row(value=None, ci95=None, n=0), _row(split="x", ci95=None, n=1)]))
    assert rows[0][3] == "–"
    assert rows[1][3] == "85.23"


def test_errors_are_marked_and_explained() -> None:
    entries = entries_of("r", "tiny", [_row(errors=3, limited=True)])
    assert grid(entries)[1][0][3].endswith("*")
    text = " ".join(notes(entries))
    assert "samples that failed are missing" in text
    assert "A subset" in text


def test_markdown_is_table_and_csv_and_json_keep_full_precision() -> None:
    entries = entries_of("r", "a|b", [_row(value=85.123456789)])
    lines = to_markdown(entries).splitlines()
    assert lines[0] == "| task | split | metric | a\\|b | n | unparsed | truncated | errors |"
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
def test_corrupt_or_newer_file_is_reported(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_scores(tmp_path / "scores.json")


def test_no_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no finished run"):
        collect([tmp_path])
    with pytest.raises(UserError, match="there is no folder"):
        collect([tmp_path / "absent"])


def test_runs_are_not_written_over_each_other_nor_into_packages(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "a")
    folder.write_manifest(Manifest(settings={}, model={}, cwd=".", splits={}, state="running"))
    with pytest.raises(UserError, match="exists already"):
        RunFolder.create(tmp_path / "runs", "a")
    (tmp_path / "package" / "deep").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").touch()
    with pytest.raises(UserError, match="is a Python package"):
        RunFolder.create(tmp_path / "package" / "deep", "a")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be created"):
        RunFolder.create(tmp_path / "file", "a")
