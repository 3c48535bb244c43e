"""Other harnesses' results that were changed at random: refused in a sentence, or scored for what they say."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from random import Random

import openpyxl
import pytest

from evalkit.api import load_task
from evalkit.errors import UserError
from evalkit.importing import files, inspect_log
from evalkit.importing.discover import Reading, source_of
from evalkit.importing.ids import join
from evalkit.workbook import MOST_BYTES

from ..mutations import binary, json_lines, json_value, text, zipped
from .harness import BOTH, Case, Evalkit, Target, fuzz, limited

FILES = Path(__file__).parents[1] / "importing" / "files"
READ = 300
"""So many changes of each kind are read."""
LMMS = "lmms-eval/table/20261130_005703_samples_shapes.jsonl"
LM = "lm-eval/table/samples_colors_2026-11-29T16-40-38.409738.jsonl"
LOG = "inspect/2026-11-29T17-28-11-00-00_colors_V8ypTqwht9iVUReSeLuyad.json"
ARCHIVE = "inspect/2026-11-29T17-24-50-00-00_shapes_AdaTm8kZ4PXCCM6sNksg79.eval"

KINDS = {
    "lmms-eval": ("shapes.tsv", LMMS, LMMS, json_lines),
    "lmms-eval, results": ("shapes.tsv", LMMS, "lmms-eval/table/20261130_005703_results.json", json_value),
    "lm-eval": ("colors.jsonl", LM, LM, json_lines),
    "lm-eval, bytes": ("colors.jsonl", LM, LM, text),
    "evalscope": ("shapes.tsv", *["evalscope/predictions/table/general_vmcq_shapes.jsonl"] * 2, json_lines),
    "evalscope, reviews": ("shapes.tsv", *["evalscope/reviews/table/general_vmcq_shapes.jsonl"] * 2, json_lines),
    "inspect": ("colors.jsonl", LOG, LOG, json_value),
    "inspect, archive": ("shapes.tsv", ARCHIVE, ARCHIVE, binary),
    "vlmevalkit, xlsx": ("shapes.tsv", "table_shapes.xlsx", "table_shapes.xlsx", zipped),
    "vlmevalkit, tsv": ("shapes.tsv", "table_shapes.tsv", "table_shapes.tsv", text),
    "vlmevalkit, json": ("shapes.tsv", "table_shapes.json", "table_shapes.json", json_value),
}
"""By kind: the task, the file that is given, the one that is changed, and how."""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The files of the harnesses, and a table of VLMEvalKit's in each form."""
    made = tmp_path / "made"
    shutil.copytree(FILES, made)
    book = openpyxl.Workbook()
    rows = [["index", "question", "answer", "prediction", "hit"]]
    rows += [
        [n, f"Which shape is in drawing {n}?", "A", f"The answer is {'ABCD'[n % 4]}.", n % 2] for n in range(1, 21)
    ]
    for row in rows:
        book.active.append(row)
    book.save(made / "table_shapes.xlsx")
    (made / "table_shapes.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    (made / "table_shapes.json").write_text(json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]]))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_are_read_or_refused(made: Path, kind: str) -> None:
    task, given, changed, mutation = KINDS[kind]
    samples = list(load_task(str(made / task)))
    content = (made / changed).read_bytes()
    random = Random(kind)
    read = 0
    for _ in range(READ):
        (made / changed).write_bytes(mutation(content, random))
        with limited(), suppress(UserError):
            found = source_of(made / given).read(made / given, Reading())
            join(found.answers, samples, None, given)
            read += 1
    assert read  # some changes are harmless


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_commands_on_changed_files(evalkit: Evalkit, made: Path, tmp_path: Path, kind: str, total: int) -> None:
    task, given, changed, mutation = KINDS[kind]
    command = ["import", given, "--tasks", task, "--skip-missing", "--name", "x"]
    fuzz(evalkit, made, tmp_path / "copy", kind, Target(changed, mutation, [command], 60, scored_or_refused), total)


def scored_or_refused(case: Case) -> None:
    """A command that succeeds has a line for every sample, and a reason wherever the two scores differ."""
    run = case.folder / "runs" / "x"
    (row,) = json.loads((run / "scores.json").read_text())["results"]
    (compared,) = run.glob("*.imported.jsonl")
    lines = [json.loads(line) for line in compared.read_text().splitlines()]
    assert sum(line["ours"] is not None for line in lines) == row["n"] <= 20
    assert all(line["reason"] or line["ours"] == pytest.approx(line["theirs"]) for line in lines)


# -------------------------------------------------------------------------------------------------------------- bounds


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        source_of(path).read(path, Reading())
    return str(error.value)


def test_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m_shapes.xlsx"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w") as f,
    ):
        for _ in range(MOST_BYTES // (1 << 20) + 1):
            f.write(b" " * (1 << 20))
    assert path.stat().st_size < 1 << 20
    assert "workbooks of at most" in refusal(path)


def test_cell_at_the_end_of_a_sheet_makes_no_table_of_billions_of_cells(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["index", "prediction"])
    book.active.cell(row=1_048_576, column=16_384, value="x")
    book.save(tmp_path / "m_shapes.xlsx")
    assert "more than 20,000,000 cells" in refusal(tmp_path / "m_shapes.xlsx")


def test_entities_of_a_workbook_are_not_expanded_without_end(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["index", "prediction"])
    book.save(tmp_path / "plain.xlsx")
    names = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "0123456789">{names}]>'
    path = tmp_path / "m_shapes.xlsx"
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            part = source.read(name).decode()
            if name.endswith("sheet1.xml"):
                part = bomb + part.replace(
                    "<sheetData>", '<sheetData><row r="9"><c r="A9" t="str"><v>&e11;</v></c></row>'
                )
            target.writestr(name, part)
    with limited():
        refusal(path)


def test_sample_of_an_archive_that_states_too_many_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "status": "success", "eval": {}}))
        with archive.open("samples/1_epoch_1.json", "w") as file:
            for _ in range(files.LARGEST_LINE // (1 << 20) + 1):
                file.write(b" " * (1 << 20))
    assert "at most 67,108,864 are read" in refusal(path)


def test_compressed_sample_is_read_up_to_its_stated_size_only(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(b" " * (32 << 20))
    path = tmp_path / "x.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", packed)
        info = archive.getinfo("header.json")
        info.compress_type, info.file_size = inspect_log.ZSTANDARD, 100
    assert "the archive is damaged" in refusal(path)


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "m_shapes.json"])
def test_deep_json_is_refused(tmp_path: Path, name: str) -> None:
    start = b'[{"index": 1, "prediction": ' if name.startswith("m") else b'{"version": 2, "status": 1, "eval": '
    (tmp_path / name).write_bytes(start + b"[" * 1_000_000)
    with pytest.raises(UserError, match="nested too deeply|not valid JSON"):
        source_of(tmp_path / name).read(tmp_path / name, Reading())


def test_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_LINE", 1000)
    (tmp_path / "x.jsonl").write_bytes(b'{"doc_id": "' + b"x" * 5000)
    with pytest.raises(UserError, match="line 1: it has more than 1,000 bytes"):
        source_of(tmp_path / "x.jsonl")


def test_pipes_and_links_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="not a regular file"):
        source_of(tmp_path / "x.jsonl")
