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
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "predictions" / "vlmevalkit"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the published answers are not here")


@pytest.mark.parametrize(
    ("task", "name", "score"),
    [("mmstar", "vila_8b_MMStar", 41.667), ("realworldqa", "vila_13b_RealWorldQA", 53.464)],
)
def test_imported_scores_are_the_stored_ones(
    evalkit: Evalkit, tmp_path: Path, task: str, name: str, score: float
) -> None:
    rows = pd.read_excel(SHARED / f"{name}.xlsx", dtype={"index": str}, keep_default_na=False, na_values=[""])
    file = name.partition("b_")[2]
    (tmp_path / "root").mkdir()
    rows.drop(columns="prediction").to_csv(tmp_path / "root" / f"{file}.tsv", sep="\t", index=False)
    done = evalkit(
        "import", str(SHARED / f"{name}.xlsx"), "--tasks", task, "--data", "root", "--rule", "vlmevalkit-2024",
        "--name", "vila", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "runs/vila/scores.json").read_text())["results"]
    assert round(row["value"], 3) == score
    record = next(iter(json.loads((tmp_path / "runs/vila/manifest.json").read_text())["imported"].values()))
    assert round(100 * record["stated"]["none/Overall"], 3) == score
    assert record["metric"] == "hit"
    (compared,) = (tmp_path / "runs/vila").glob("*.imported.jsonl")
    lines = [json.loads(line) for line in compared.read_text().splitlines()]
    assert [line["id"] for line in lines if line["reason"]] == []
    assert len(lines) == len(rows)
