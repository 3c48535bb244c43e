"""Answers of VILA that VLMEvalKit has scored, scored by the command line: its numbers to the last digit.

The files (VLMEvalKit's pull request 320, judge: exact matching) are not a part of the repository; where they are not
there, these tests are skipped.  They hold the questions with the options and the right letters, of which a data root in
VLMEvalKit's format is made; an option that pandas read as missing is an empty cell.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Call = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[3]
FOUND = [folder / "shared" / "predictions" / "vlmevalkit" for folder in (ROOT, ROOT.parent)]
SHARED = next((folder for folder in FOUND if folder.is_dir()), FOUND[0])

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the published answers are not here")

NUMBERS = {
    ("mmstar", "vila_8b_MMStar"): {
        "official": 42.0, "vlmevalkit-2024": 41.667, "vlmevalkit-2025-08": 40.867, "vlmevalkit-2026-06": 41.067,
        "qwen3-vl-evaluation": 41.133,
    },
    ("ccbench", "vila_13b_CCBench"): {"vlmevalkit-2024": 23.333},
    ("realworldqa", "vila_13b_RealWorldQA"): {"vlmevalkit-2024": 53.464},
    ("seedbench_img", "vila_13b_SEEDBench_IMG"): {"vlmevalkit-2024": 72.745, "vlmevalkit-2025-08": 72.723},
    ("scienceqa_img", "vila_13b_ScienceQA_TEST"): {"vlmevalkit-2024": 79.078},
}  # fmt: skip
"""(task, file): the score by rule, to three decimals."""


def table(name: str) -> pd.DataFrame:
    return pd.read_excel(SHARED / f"{name}.xlsx", dtype={"index": str}, keep_default_na=False, na_values=[""])


def run(evalkit: Call, folder: Path, task: str, name: str, *rules: str) -> dict[str, dict[str, Any]]:
    """The result of each rule, with the scores of every sample in ``samples``."""
    rows = table(name)
    file = name.partition("b_")[2]
    (folder / "root").mkdir()
    rows.drop(columns="prediction").to_csv(folder / "root" / f"{file}.tsv", sep="\t", index=False)
    answers = [
        {"id": index, "text": text} for index, text in zip(rows["index"], rows["prediction"].map(str), strict=True)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    done = evalkit(
        "score", "-t", task, "-p", "answers.jsonl", "--data", "root", "--rule", ",".join(rules), "--out", "runs",
        "--name", "vila", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {}
    for rule in rules:
        run_folder = folder / "runs" / (f"vila-{rule}" if len(rules) > 1 else "vila")
        (result,) = json.loads((run_folder / "scores.json").read_text())["results"]
        (lines,) = run_folder.glob("**/*scores*.jsonl")
        samples = {line["id"]: line for line in map(json.loads, lines.read_text().splitlines())}
        found[rule] = {**result, "samples": samples}
    return found


@pytest.mark.parametrize(("task", "name"), NUMBERS, ids=lambda value: value)
def test_scores_are_those_of_vlmevalkit(evalkit: Call, tmp_path: Path, task: str, name: str) -> None:
    expected = NUMBERS[task, name]
    found = run(evalkit, tmp_path, task, name, *expected, *(["plain"] if task == "ccbench" else []))
    assert {rule: round(found[rule]["value"], 3) for rule in expected} == expected
    _check_categories(task, found["vlmevalkit-2024"], pd.read_csv(SHARED / f"{name}_acc.csv"))
    if task == "ccbench":  # intervals count questions, not rows
        share = found["vlmevalkit-2024"]["value"] / 100
        assert found["vlmevalkit-2024"]["clusters"] == 510
        assert found["vlmevalkit-2024"]["stderr"] == pytest.approx(100 * (share * (1 - share) / 509) ** 0.5)
    if task == "mmstar":  # lmms-eval's score, of the letters that VLMEvalKit reads
        assert round(found["vlmevalkit-2024"]["values"]["accuracy_l2"], 3) == 42.879
    _check_rows(task, found["vlmevalkit-2024"], pd.read_excel(SHARED / f"{name}_openai_result.xlsx"))


def _check_categories(task: str, result: dict[str, Any], stored: pd.DataFrame) -> None:
    """The accuracy of each category is the stored one; ScienceQA has its subjects here, not its 65 topics."""
    column = "circular" if task == "ccbench" else "accuracy"
    assert result["value"] == pytest.approx(100 * stored["Overall"][0], abs=1e-9)
    if task == "scienceqa_img":
        return
    for category in stored.columns[2:]:
        assert result["values"][f"{column}[{category}]"] == pytest.approx(100 * stored[category][0], abs=1e-9)


def _check_rows(task: str, result: dict[str, Any], stored: pd.DataFrame) -> None:
    """Every row is right or wrong as in the stored file."""
    column = "circular" if task == "ccbench" else "accuracy"
    hits = {str(index): float(hit) for index, hit in zip(stored["index"], stored["hit"], strict=True)}
    ours = {index: result["samples"][index][column] / 100 for index in hits}
    assert ours == hits
