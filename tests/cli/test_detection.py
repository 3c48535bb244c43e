"""The kind ``detection`` from a custom file and answers to scores, pages and exports, by every rule and convention."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Call = Callable[..., subprocess.CompletedProcess[str]]

BOAT, CAR = {"label": "boat", "box": [100, 40, 300, 80]}, {"label": "car", "box": [500, 200, 900, 400]}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A custom task with three images of 1000 × 400 pixels, the last without objects."""
    Image.new("RGB", (1000, 400)).save(tmp_path / "a.png")
    rows: list[dict[str, Any]] = [{"evalkit": 1, "kind": "detection"}]
    for number, boxes in enumerate(([BOAT, CAR], [BOAT], []), 1):
        Image.new("RGB", (1000, 400), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append({"id": number, "image": f"{number}.png", "categories": ["boat", "car"], "boxes": boxes})
    path = tmp_path / "boats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(evalkit: Call, own: Path, answers: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
    file = own.parent / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in answers.items()))
    shutil.rmtree(own.parent / "runs", ignore_errors=True)
    out = ("--out", str(own.parent / "runs"), "--name", "mine")
    return evalkit("score", "--tasks", str(own), "-p", str(file), *out, *options, cwd=own.parent)


def result(own: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((own.parent / "runs" / "mine" / "scores.json").read_text())["results"][0]
    return found


def listed(*boxes: tuple[str, list[float]]) -> str:
    items = ",\n".join(f'\t{{"bbox_2d": {json.dumps(box)}, "label": "{label}"}}' for label, box in boxes)
    return f"```json\n[\n{items}\n]\n```"


PIXELS = {
    "1": listed(("boat", [100, 40, 300, 80]), ("car", [500, 200, 900, 400])), "2": listed(("Boat", [100, 40, 300, 80])), "3": "[]",
}  # fmt: skip
THOUSANDTHS = {
    "1": listed(("boat", [100, 100, 300, 200]), ("car", [500, 500, 900, 1000])), "2": listed(("Boat", [100, 100, 300, 200])),
    "3": "[]",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "right", "wrong"),
    [
        (("--boxes", "pixels"), PIXELS, THOUSANDTHS),
        (("--boxes", "0-1000"), THOUSANDTHS, PIXELS),
        (("--family", "qwen3-vl"), THOUSANDTHS, PIXELS),
        (("--boxes", "0-1000", "--rule", "qwen3-vl-evaluation"), THOUSANDTHS, PIXELS),
    ],
)
def test_coordinates(
    evalkit: Call, own: Path, options: tuple[str, ...], right: dict[str, object], wrong: dict[str, object]
) -> None:
    done = score(evalkit, own, right, *options)
    assert done.returncode == 0, done.stderr
    row = result(own)
    assert (row["metric"], row["value"], row["unparsed"]) == ("mAP", pytest.approx(100), 0)
    assert "boxes:" in row["signature"]
    done = score(evalkit, own, wrong, *options)
    assert done.returncode == 0, done.stderr
    assert result(own)["value"] == 0


def test_lists_in_files_of_answers(evalkit: Call, own: Path) -> None:
    answers = {"1": [{"bbox_2d": BOAT["box"], "label": "boat"}], "2": [], "3": []}
    assert score(evalkit, own, answers, "--boxes", "pixels").returncode == 0
    assert result(own)["values"]["boxes"] == pytest.approx(1 / 3)


def test_truncated_lists(evalkit: Call, own: Path) -> None:
    broken = PIXELS["1"][: PIXELS["1"].index("900")]
    answers = {**PIXELS, "1": broken}
    assert score(evalkit, own, answers, "--boxes", "pixels").returncode == 0
    assert (result(own)["unparsed"], result(own)["value"]) == (1, pytest.approx(25.24752475, abs=0.01))
    assert score(evalkit, own, answers, "--boxes", "pixels", "--rule", "evalkit-boxes-complete-1").returncode == 0
    assert (result(own)["unparsed"], result(own)["value"]) == (0, pytest.approx(50))


def test_refusals(evalkit: Call, own: Path) -> None:
    for options, sentence in (
        ((), "boats asks for boxes, and a text alone does not say in which coordinates they are"),
        (("--boxes", "0-1", "--rule", "official"), "there is no scoring rule 'official': there are evalkit-boxes-1"),
    ):
        done = score(evalkit, own, dict(PIXELS), *options)
        assert done.returncode == 2
        assert sentence in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_show_report_export_rescore_and_a_journal(evalkit: Call, own: Path) -> None:
    assert score(evalkit, own, {**PIXELS, "2": "none"}, "--boxes", "pixels").returncode == 0
    run = str(own.parent / "runs" / "mine")
    shown = evalkit("show", run, cwd=own.parent)
    assert shown.returncode == 0
    assert "boat: box (100, 40)–(300, 80)" in shown.stdout
    assert "(no boxes)" in shown.stdout
    assert evalkit("report", run, "--out", str(own.parent / "report"), cwd=own.parent).returncode == 0
    page = "".join(
        path.read_text() for path in (own.parent / "report").rglob("*") if path.suffix in (".js", ".json", ".html")
    )
    assert '"label"' in page
    done = evalkit("export", run, "--to", "csv", "--out", str(own.parent / "x"), cwd=own.parent)
    assert done.returncode == 0, done.stderr
    again = evalkit("rescore", run, "--rule", "qwen3-vl-evaluation", cwd=own.parent)
    assert again.returncode == 0, again.stderr
    (journal,) = (own.parent / "runs" / "mine").glob("*own.jsonl")
    done = evalkit(
        "score",
        "--tasks",
        str(own),
        "-p",
        str(journal),
        "--name",
        "again",
        "--out",
        str(own.parent / "runs"),
        cwd=own.parent,
    )
    assert done.returncode == 0, done.stderr


def test_custom_files_run(evalkit: Call, own: Path) -> None:
    done = evalkit(
        "run", "--tasks", str(own), "--max-new-tokens", "8", "--out", str(own.parent / "runs"), cwd=own.parent
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "mAP" in done.stdout
