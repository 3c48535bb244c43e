"""A score that is a weighted sum of means, MME's, in every command that reads scores."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.metrics.mme import SUBTASKS

Call = Callable[..., subprocess.CompletedProcess[str]]
IMAGES = 4


def run(evalkit: Call, folder: Path, name: str, right: int) -> Path:
    """A run that answers the first ``right`` images of each subtask right, and of the others one question."""
    lines = ["index\tcategory\timage_path\tquestion\tanswer"]
    answers = []
    for place, (subtask, image, number) in enumerate(
        (subtask, image, number) for subtask in SUBTASKS for image in range(IMAGES) for number in range(2)
    ):
        lines.append(f"{place}\t{subtask}\t{subtask}/{image}.jpg\tIs it? Please answer yes or no.\tYes")
        answers.append({"id": str(place), "text": "Yes" if image < right or number else "No"})
    (folder / "mme").mkdir(exist_ok=True)
    (folder / "mme/MME.tsv").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    done = evalkit("score", "-t", "mme", "-p", f"{name}.jsonl", "--data", ".", "--name", name, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / name


@pytest.fixture(scope="module")
def runs(evalkit: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighted")
    run(evalkit, folder, "good", 3)
    run(evalkit, folder, "bad", 1)
    return folder


def test_scores_and_intervals(runs: Path) -> None:
    (row,) = json.loads((runs / "runs/good/scores.json").read_text())["results"]
    # Of four images, three are right; of the fourth, one of two questions.
    assert row["value"] == pytest.approx(14 * (87.5 + 75))
    assert row["values"]["score[OCR]"] == pytest.approx(162.5)
    assert row["aggregation"] == "weighted"
    assert 0 < row["low"] < row["value"] < row["high"] <= 2800
    lines = [json.loads(line) for line in (runs / "runs/good/mme.test.scores.jsonl").read_text().splitlines()]
    assert sum(line["mme_sum"] for line in lines) / len(lines) == pytest.approx(row["value"])


def test_compare_and_check(evalkit: Call, runs: Path) -> None:
    done = evalkit("compare", "runs/good", "runs/bad", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert "2275.00  1225.00" in done.stdout
    assert "worse" in done.stdout
    assert evalkit("baseline", "runs/good", "--out", "base.json", cwd=runs).returncode == 0
    same = evalkit("check", "runs/good", "--baseline", "base.json", cwd=runs)
    assert same.returncode == 0, same.stderr
    worse = evalkit("check", "runs/bad", "--baseline", "base.json", cwd=runs)
    assert worse.returncode == 1
    assert "mme/test: worse by 1050.00" in worse.stdout


def test_a_sample_is_right_or_wrong_by_its_own_answer(evalkit: Call, runs: Path) -> None:
    done = evalkit("show", "runs/good", "--wrong", "100", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": wrong") == 14
    assert "accuracy 0.0 · accuracy_plus 0.0" in done.stdout
