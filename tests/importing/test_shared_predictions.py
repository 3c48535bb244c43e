"""Tables that VLMEvalKit wrote about real models: imported, the scores are VLMEvalKit's, sample by sample.

The files are not a part of the repository; where they are not there, these tests are skipped.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Evalkit = Callable[..., subprocess.CompletedProcess[str]]
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "predictions"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the published answers are not here")


CASES = {
    "ccbench": ("vlmevalkit/vila_13b_CCBench", "vlmevalkit-2024", "none/Overall", 23.333, 100),
    "hallusionbench": ("vlmevalkit/vila_8b_HallusionBench", "vlmevalkit-yes-no", "Overall/aAcc", 52.261, 1),
    "mme": ("vlmevalkit/vila_8b_MME", "vlmevalkit-yes-no", "perception", 1558.525, 1),
    "mmstar": ("vlmevalkit/vila_8b_MMStar", "vlmevalkit-2024", "none/Overall", 41.667, 100),
    "mtvqa": ("mtvqa/InternVL-Chat-V1-5_MTVQA_TEST", "official", "DE", 27.481, 100),
    "ocrbench": ("vlmevalkit/vila_13b_OCRBench", "", "Final Score", 458.0, 1),
    "pope": ("vlmevalkit/vila_13b_POPE", "vlmevalkit-yes-no", "Overall/Overall", 84.958, 1),
    "realworldqa": ("vlmevalkit/vila_13b_RealWorldQA", "vlmevalkit-2024", "none/Overall", 53.464, 100),
    "scienceqa_img": ("vlmevalkit/vila_13b_ScienceQA_TEST", "vlmevalkit-2024", "test/Overall", 79.078, 100),
}
"""By task: the table, the rule, and a score that VLMEvalKit states, with its name and the factor to our scale."""
VALUES = {"hallusionbench": "aAcc", "mme": "perception", "mtvqa": "accuracy[DE]"}
"""The names of our values that are not the headline."""
QUICK = ("hallusionbench", "ocrbench", "realworldqa")


@pytest.mark.parametrize("task", [t if t in QUICK else pytest.param(t, marks=pytest.mark.slow) for t in CASES])
def test_imported_scores_are_the_stored_ones(evalkit: Evalkit, tmp_path: Path, task: str) -> None:
    name, rule, stated, score, factor = CASES[task]
    rows = pd.read_excel(SHARED / f"{name}.xlsx", dtype={"index": str}, keep_default_na=False, na_values=[""])
    file = "MTVQA_TEST" if task == "mtvqa" else name.partition("b_")[2]
    (tmp_path / "root").mkdir()
    rows.drop(columns="prediction").to_csv(tmp_path / "root" / f"{file}.tsv", sep="\t", index=False)
    done = evalkit(
        "import", str(SHARED / f"{name}.xlsx"), "--tasks", task, "--data", "root", "--name", "vila",
        *(["--rule", rule] if rule else []), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "runs/vila/scores.json").read_text())["results"]
    ours = row["values"][VALUES[task]] if task in VALUES else row["value"]
    assert round(ours, 3) == score
    record = next(iter(json.loads((tmp_path / "runs/vila/manifest.json").read_text())["imported"].values()))
    assert round(factor * record["stated"][stated], 3) == score
    (compared,) = (tmp_path / "runs/vila").glob("*.imported.jsonl")
    lines = [json.loads(line) for line in compared.read_text().splitlines()]
    assert len(lines) == len(rows)
    if task in ("mtvqa", "ocrbench"):  # whose tables have no scores of rows
        assert {line["reason"] for line in lines} == {"unscored"}
        assert "VLMEvalKit recorded no scores of single samples" in done.stdout
    else:  # circular: only the first of a question's rows is scored there
        assert [line["id"] for line in lines if line["reason"] and line["reason"] != "unscored"] == []
        assert sum(not line["reason"] for line in lines) == (510 if task == "ccbench" else len(rows))
