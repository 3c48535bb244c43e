"""The files that ``evalkit score`` reads: journals of runs, and the formats of other programs."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evalkit.api import load_task
from evalkit.data import bundled_root
from evalkit.errors import UserError
from evalkit.model.families.qwen2_5_vl import resized
from evalkit.predictions import read_predictions
from evalkit.results.store.journal import seal

Evalkit = Callable[..., subprocess.CompletedProcess[str]]


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row_of(run: Path) -> dict[str, Any]:
    (row,) = json.loads((run / "scores.json").read_text())["results"]
    return dict(row)


def message(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.split())


# ------------------------------------------------------------------------------------------------------------- journals


@pytest.fixture(scope="module")
def boxes_run(evalkit: Evalkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the bundled checkpoint over four samples, whose images it saw at other sizes than the family's."""
    folder = tmp_path_factory.mktemp("boxes")
    done = evalkit(
        "run", "-t", "refcoco/testA", "--limit", "4", "--max-pixels", "20000", "--name", "r", "--device", "cpu",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "r"


def test_journal_in_its_run_folder_is_scored_as_run_was(evalkit: Evalkit, boxes_run: Path, tmp_path: Path) -> None:
    run = row_of(boxes_run)
    journal = boxes_run / "refcoco.testA.jsonl"
    done = evalkit("score", "-t", "refcoco/testA", "-p", str(journal), "--name", "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own = {"seconds": 0, "journal": ""}
    assert {**row_of(tmp_path / "runs" / "s"), **own} == {**run, **own}
    assert run["n"] == 4
    before, after = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (journal, tmp_path / "runs" / "s" / "refcoco.testA.jsonl")
    )
    by_id = {line["id"]: line for line in before}
    assert after == [by_id[line["id"]] for line in after], "tokens, sizes and digests are copied"
    manifest = json.loads((tmp_path / "runs" / "s" / "manifest.json").read_text())
    assert (manifest["settings"]["max_pixels"], manifest["model"]["name"]) == (20_000, "s")
    again = evalkit("rescore", "runs/s", cwd=tmp_path)
    assert "refcoco/testA: unchanged" in again.stderr, again.stderr


def test_copied_journal_has_sizes_in_its_lines(evalkit: Evalkit, boxes_run: Path, tmp_path: Path) -> None:
    shutil.copy(boxes_run / "refcoco.testA.jsonl", tmp_path / "copy.jsonl")
    command = ("score", "-t", "refcoco/testA", "--data", "tiny", "-p", "copy.jsonl")
    refused = evalkit(*command, cwd=tmp_path)
    assert refused.returncode == 2
    assert "has answers to 4 of the" in message(refused)
    other = evalkit(
        "score", "-t", "refcoco/testB", "--data", "tiny", "-p", "copy.jsonl", "--allow-missing", cwd=tmp_path
    )
    assert (other.returncode, "has no answer to a sample of refcoco/testB" in message(other)) == (2, True)
    for name, options in (("parsed", ("--family", "qwen2.5-vl")), ("recorded", ())):
        done = evalkit(*command, "--allow-missing", "--name", name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        row, run = row_of(tmp_path / "runs" / name), row_of(boxes_run)
        assert (row["values"], row["n"], row["errors"], row["limited"]) == (run["values"], 4, 0, True)
        assert "samples are not in the journal copy.jsonl and are left out of the score" in message(done)
        again = evalkit("rescore", f"runs/{name}", cwd=tmp_path)
        assert "refcoco/testA: unchanged" in again.stderr, again.stderr


def test_limits_that_contradict_recorded_sizes_are_refused(evalkit: Evalkit, boxes_run: Path, tmp_path: Path) -> None:
    command = ("score", "-t", "refcoco/testA", "-p", str(boxes_run / "refcoco.testA.jsonl"), "--name", "x")
    done = evalkit(*command, "--max-pixels", "3136", cwd=tmp_path)
    assert done.returncode == 2
    assert "--max-pixels 3136" in message(done)
    assert "records the sizes that the model's images were resized to" in message(done)
    assert evalkit(*command, "--max-pixels", "20000", cwd=tmp_path).returncode == 0


def test_family_or_protocol_other_than_runs_is_said(evalkit: Evalkit, boxes_run: Path, tmp_path: Path) -> None:
    command = ("score", "-t", "refcoco/testA", "-p", str(boxes_run / "refcoco.testA.jsonl"))
    done = evalkit(*command, "--family", "qwen3-vl", "--protocol", "lmms-eval", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "parsed as answers of the family qwen3-vl; the run's is qwen2.5-vl" in message(done)
    assert "parsed under the protocol lmms-eval; the run's is official" in message(done)


def own_journal(folder: Path, *, errors: int) -> Path:
    """A task of ten questions and a journal with five right answers, one truncated, and errors."""
    ids = [str(n) for n in range(10 + errors)]
    rows = [{"id": n, "image": "none.png", "question": "?", "answers": ["yes"]} for n in ids]
    write_lines(folder / "q.jsonl", rows)
    with (folder / "q.own.jsonl").open("wb") as file:
        for place, name in enumerate(ids):
            line: dict[str, object] = {
                "id": name, "prompt": "0" * 16, "text": "yes" if place < 5 else "no", "answer": None, "finish": "stop",
                "new_tokens": 3, "prompt_tokens": 9, "images": [], "digests": [], "frames": [],
            }  # fmt: skip
            line["answer"] = line["text"]
            if place == 9:
                line["finish"] = "length"
            if place >= 10:
                line |= {"finish": "error", "text": "", "answer": None, "error": "out of memory"}
            file.write(seal(json.dumps(line).encode(), 0.5))
    return folder / "q.own.jsonl"


def test_failed_and_truncated_answers_of_journal_stay_so(evalkit: Evalkit, tmp_path: Path) -> None:
    own_journal(tmp_path, errors=4)
    done = evalkit("score", "-t", "q.jsonl", "--data", "tiny", "-p", "q.own.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 1
    row = row_of(tmp_path / "runs" / "x")
    assert (row["value"], row["n"], row["errors"], row["truncated"]) == (50.0, 10, 4, 1)
    assert "4 samples failed" in done.stderr
    assert "retry" not in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "runs" / "x" / "q.own.jsonl").read_text().splitlines()]
    assert {(line["new_tokens"], line["prompt_tokens"], line["seconds"]) for line in lines} == {(3, 9, 0.5)}
    assert [line["error"] for line in lines if line["finish"] == "error"] == ["out of memory"] * 4


def test_last_answer_of_journal_counts_and_damage_is_said(evalkit: Evalkit, tmp_path: Path) -> None:
    journal = own_journal(tmp_path, errors=1)
    lines = journal.read_bytes().splitlines(keepends=True)
    retried = {**json.loads(lines[0]), "id": "10"}
    body = json.dumps({key: value for key, value in retried.items() if key not in ("sum", "seconds")})
    journal.write_bytes(b"".join(lines) + seal(body.encode(), 0.5) + lines[0][:20])
    command = ("score", "-t", "q.jsonl", "--data", "tiny", "-p", "q.own.jsonl")
    done = evalkit(*command, "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the last line is truncated and was ignored" in done.stderr
    row = row_of(tmp_path / "runs" / "x")
    assert (row["n"], row["errors"], row["value"]) == (11, 0, pytest.approx(600 / 11))
    journal.write_bytes(b"".join([lines[0], lines[1].replace(b"yes", b"no!"), *lines[2:]]))
    done = evalkit(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert "line 2 is corrupt (its checksum is wrong)" in message(done)


# ------------------------------------------------------------------------------------------------------- other formats

ANSWERS = {"0": "2", "1": "yes", "2": "0.50", "3": ""}


def write_excel(path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["index", "question", "prediction"])
    for name, text in ANSWERS.items():
        book.active.append([int(name), "?", text])
    book.save(path)


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "text"], *ANSWERS.items()])


WRITERS: dict[str, Callable[[Path], object]] = {
    "llava.jsonl": lambda path: write_lines(
        path, [{"question_id": int(k), "prompt": "p", "text": v, "model_id": "m"} for k, v in ANSWERS.items()]
    ),
    "map.json": lambda path: path.write_text(json.dumps(ANSWERS)),
    "indented-map.json": lambda path: path.write_text(json.dumps(ANSWERS, indent=4)),
    "numbers.json": lambda path: path.write_text('{"0": 2, "1": "yes", "2": 0.50, "3": ""}'),
    "indented-objects.json": lambda path: path.write_text(
        "\n".join(json.dumps({"id": k, "text": v}, indent=2) for k, v in ANSWERS.items())
    ),
    "wrapped.json": lambda path: path.write_text(
        json.dumps({"version": 1, "results": [{"question_id": k, "answer": v} for k, v in ANSWERS.items()]}, indent=1)
    ),
    "vlmevalkit.xlsx": write_excel,
    "table.csv": write_csv,
    "table.tsv": lambda path: path.write_text(
        "index\tprediction\n" + "".join(f"{k}\t{v}\n" for k, v in ANSWERS.items())
    ),
    "float-ids.jsonl": lambda path: write_lines(path, [{"id": float(k), "text": v} for k, v in ANSWERS.items()]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats_of_other_programs(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    assert {p.id: p.text for p in read_predictions(path, set(ANSWERS))} == ANSWERS


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "questions.jsonl": ('{"question_id": 0, "image": "1.jpg", "text": "How many?"}', "has LLaVA's questions, not answers"),
    "other-map.json": (json.dumps({f"x{n}": "a" for n in range(20)}), "maps 20 ids to answers, and none of the ids"),
    "truncated.json": ('{\n "0": "2",\n "1": "y', "line 3: not valid JSON"),
    "list.json": ('{\n "0": "2"\n}\n[1]', "expected JSON objects, not list"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "the old Excel format"),
    "broken.xlsx": (b"PK\x03\x04 torn", "the Excel file cannot be read"),
    "short.csv": ("id,text\n1\n", "row 1: it has not as many cells as the header"),
    "nan.jsonl": ('{"id": 0, "text": NaN}', "'text' is NaN, which is not a number"),
    "list.jsonl": ('{"id": 0, "text": [["yes"]]}', "text is ['yes']; expected a text or a number"),
    "half-id.jsonl": ('{"id": 0.5, "text": ""}', "id is 0.5; expected a string or an integer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_with_reason(tmp_path: Path, name: str) -> None:
    content, sentence = REFUSED[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_predictions(tmp_path / name, set(ANSWERS))
    assert sentence in str(caught.value)


def test_answers_to_other_samples_are_not_used(evalkit: Evalkit, tmp_path: Path) -> None:
    own_journal(tmp_path, errors=0)
    write_lines(tmp_path / "a, b.jsonl", [{"id": n, "text": "yes"} for n in range(12)])
    done = evalkit("score", "-t", "q.jsonl", "--data", "tiny", "-p", "a, b.jsonl", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row_of(tmp_path / "runs" / "x")["n"] == 10
    assert "2 of 12 answers in a, b.jsonl are to samples outside the split and are not used (10, 11)" in message(done)


def test_texts_are_scored_without_images(evalkit: Evalkit, tmp_path: Path) -> None:
    shutil.copytree(bundled_root() / "vqav2", tmp_path / "root" / "vqav2")
    write_lines(
        tmp_path / "p.jsonl",
        [{"id": sample.id, "text": sample.references[0]} for sample in load_task("vqav2/val", data="tiny")],
    )
    command = ("-t", "vqav2/val", "--data", "root", "-p", "p.jsonl", "--name", "x")
    done = evalkit("score", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "root has 324 samples, and the official split has 214,354" in message(done)
    assert evalkit("rescore", "runs/x", cwd=tmp_path).returncode == 0
    asked = evalkit("run", "-t", "vqav2/val", "--data", "root", cwd=tmp_path)
    assert asked.returncode == 2
    assert "expected coco/val2014" in message(asked)


# --------------------------------------------------------------------------------------------------------------- boxes


@pytest.mark.parametrize(
    ("coordinates", "spelled"),
    [
        ("pixels", lambda b, w, h: f"[[{b[0]}, {b[1]}], [{b[2]}, {b[3]}]]"),
        ("0-1000", lambda b, w, h: f"({b[0] * 1000 / w:.0f},{b[1] * 1000 / h:.0f}) to ({b[2] * 1000 / w:.0f},{b[3] * 1000 / h:.0f})"),
        ("0-1", lambda b, w, h: [b[0] / w, b[1] / h, b[2] / w, b[3] / h]),
        ("0-1", lambda b, w, h: json.dumps({"bbox_2d": [str(round(v, 4)) for v in (b[0] / w, b[1] / h, b[2] / w, b[3] / h)]})),
        ("resized", lambda b, w, h: [v * s for v, s in zip(b, [r / o for r, o in zip(resized((w, h)), (w, h), strict=True)] * 2, strict=True)]),
    ],
)  # fmt: skip
def test_boxes_in_stated_coordinates(
    evalkit: Evalkit, tmp_path: Path, coordinates: str, spelled: Callable[..., object]
) -> None:
    Image.new("RGB", (640, 400)).save(tmp_path / "a.png")
    boxes = {"1": [10, 20, 90, 80], "2": [300, 100, 620, 390]}
    write_lines(
        tmp_path / "q.jsonl", [{"id": k, "image": "a.png", "question": "it", "box": b} for k, b in boxes.items()]
    )
    write_lines(tmp_path / "p.jsonl", [{"id": k, "text": spelled(b, 640, 400)} for k, b in boxes.items()])
    command = ["score", "-t", "q.jsonl", "--data", "tiny", "-p", "p.jsonl", "--boxes", coordinates, "--name", "x"]
    if coordinates == "resized":
        refused = evalkit(*command, cwd=tmp_path)
        assert refused.returncode == 2
        assert "--boxes resized: how images are resized depends on the model" in message(refused)
        command += ["--family", "qwen2.5-vl"]
    done = evalkit(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = row_of(tmp_path / "runs" / "x")
    assert (row["value"], row["unparsed"]) == (100.0, 0)
    assert row["values"]["mean_iou"] > 97
    assert f"boxes:{coordinates}" in row["signature"]
    again = evalkit("rescore", "runs/x", cwd=tmp_path)
    assert "q/own: unchanged" in again.stderr, again.stderr


def test_coordinates_need_boxes(evalkit: Evalkit, tmp_path: Path) -> None:
    own_journal(tmp_path, errors=0)
    write_lines(tmp_path / "p.jsonl", [{"id": n, "text": "yes"} for n in range(10)])
    command = ("score", "-t", "q.jsonl", "--data", "tiny", "-p", "p.jsonl")
    for given, sentence in (
        ("pixels", "--boxes pixels: none of the tasks asks for boxes"),
        ("percent", "--boxes percent: unknown; use pixels, 0-1000, 0-1 or resized"),
    ):
        done = evalkit(*command, "--boxes", given, cwd=tmp_path)
        assert done.returncode == 2
        assert sentence in message(done)
