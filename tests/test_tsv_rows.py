"""Large TSV files are read in parts by several processes, and what is read is what one process reads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit import tsv_rows
from evalkit.errors import UserError
from evalkit.tsv import TsvFile, read_tsv
from evalkit.waiting import while_waiting

IMAGE = "QUJD" * 40
HEADER = "index\timage\tquestion\tanswer\n"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setattr(tsv_rows, "SMALLEST_PART", 256)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3))
    with caplog.at_level(logging.DEBUG, "evalkit.tsv_rows"):
        yield


def by_one_process(path: Path) -> TsvFile:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tsv_rows, "SMALLEST_PART", 1 << 40)
        return read_tsv(path)


def assert_same(found: TsvFile, path: Path) -> None:
    expected = by_one_process(path)
    assert found == expected
    assert len(found.rows) == len(expected.rows)
    for row, other in zip(found.rows, expected.rows, strict=True):
        assert (row.line, row.index, row.cells, row.images) == (other.line, other.index, other.cells, other.images)


def write(path: Path, rows: Iterator[str] | list[str], header: str = HEADER) -> Path:
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def plain(i: int) -> str:
    return f"{i}\t{i:08}{IMAGE}\twhat?\ta{i % 3}"


def test_all_rows_come_from_three_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.tsv", map(plain, range(30)))
    parts: list[int] = []
    real = tsv_rows._Part.rows

    def rows(part: tsv_rows._Part, *arguments: object) -> Iterator[tsv_rows.Row]:
        found = list(real(part, *arguments))  # type: ignore[arg-type]
        parts.append(len(found))
        return iter(found)

    monkeypatch.setattr(tsv_rows._Part, "rows", rows)
    found = read_tsv(path)
    assert len(parts) == 3
    assert sum(parts) == 30
    assert min(parts) >= 9
    assert_same(found, path)


def test_images_of_other_rows_are_found_across_parts(tmp_path: Path) -> None:
    rows = [plain(i) for i in range(24)]
    rows[20] = f"20\t{0:08}{IMAGE}\twhat?\ta"  # that of row 0 once more
    rows[22] = "22\t1\twhat?\ta"
    rows[2] = "2\t21\twhat?\ta"
    path = write(tmp_path / "x.tsv", rows)
    found = read_tsv(path)
    assert found.rows[20].images[0] is found.rows[0].images[0]
    assert found.rows[22].images == found.rows[1].images
    assert found.rows[2].images == found.rows[21].images
    assert_same(found, path)


texts = st.text(st.sampled_from('a"\t\n\r1ü '), max_size=12)


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(st.tuples(texts, texts), min_size=8, max_size=30), end=st.sampled_from(["\n", "\r\n"]))
def test_what_pandas_writes(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str) -> None:
    path = tmp_path_factory.mktemp("tsv") / "x.tsv"
    table = pd.DataFrame(
        {
            "index": range(len(rows)),
            "question": [first for first, _ in rows],
            "image": [f"{i:08}{IMAGE}" for i in range(len(rows))],
            "answer": [second for _, second in rows],
        }
    )
    table.to_csv(path, sep="\t", index=False, lineterminator=end)
    assert_same(read_tsv(path), path)


def test_a_part_that_begins_inside_a_text_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inside = "\n".join(plain(100 + i) for i in range(30))  # looks like rows
    path = write(tmp_path / "x.tsv", [plain(0), f'1\t{IMAGE}\t"{inside}"\ta', plain(2)])
    found = read_tsv(path)
    assert list(found.by_index) == ["0", "1", "2"]
    assert "on, it is read by one process" in caplog.text
    assert_same(found, path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("25\tabc\twhat?", "line 27: the row has 3 cells"),
        ("3\t\twhat?\ta", "line 27: the index 3 is already used in line 5"),
        ("\t\twhat?\ta", "line 27: the index is ''"),
        (f"25\t!{IMAGE}\twhat?\ta", "line 27: the image is .* neither base64"),
        ('25\t\t"what?\ta', "line 27: a cell begins with a quote that is never closed"),
        ("25\t77\twhat?\ta", "line 27: the image is '77', which is no image"),
    ],
)
def test_faults_have_the_line_of_the_file(tmp_path: Path, bad: str, message: str) -> None:
    rows = [plain(i) for i in range(30)]
    rows[25] = bad
    path = write(tmp_path / "x.tsv", rows)
    with pytest.raises(UserError, match=message) as error:
        read_tsv(path)
    with pytest.raises(UserError) as expected:
        by_one_process(path)
    assert str(error.value) == str(expected.value)


@pytest.mark.parametrize("interpreter", ["/nonexistent", "/bin/false", None])
def test_without_other_processes_this_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str | None
) -> None:
    path = write(tmp_path / "x.tsv", map(plain, range(30)))
    monkeypatch.setattr(sys, "executable", interpreter)
    assert_same(read_tsv(path), path)


def test_a_part_of_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", map(plain, range(30)))
    columns = {name: number for number, name in enumerate(HEADER.split())}
    code = f"from evalkit.tsv_rows import write_part; write_part({str(path)!r}, 5, 7, {columns}, 27, 99, 1)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == b""


def test_other_work_is_done_while_parts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.tsv", map(plain, range(30)))
    done: list[str] = []
    with while_waiting(lambda: done.append("work")):
        by_one_process(path)
        assert done == []
        read_tsv(path)
        read_tsv(path)
    assert done == ["work"]
    with while_waiting(lambda: done.append("never")):
        pass
    read_tsv(path)
    assert done == ["work"]


def test_what_is_printed_on_import_is_not_taken_for_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('hello')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    path = write(tmp_path / "x.tsv", map(plain, range(30)))
    assert_same(read_tsv(path), path)
