"""Real answers of real models, beside the repository: their rows, data roots made of them, and their scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

PREDICTIONS = Path(__file__).resolve().parents[2].parent / "shared" / "predictions"
"""The files; tests that read them are skipped where they are absent."""

Call = Callable[..., CompletedProcess[str]]


def rows_of(file: str) -> list[dict[str, Any]]:
    """The rows of a table below ``PREDICTIONS``.  Skips the test if it is absent."""
    path = PREDICTIONS / file
    if not path.is_file():
        pytest.skip(f"no {path}")
    import pandas as pd

    return [
        {str(key): value for key, value in row.items()}
        for row in pd.read_excel(path, keep_default_na=False).to_dict("records")
    ]


def columns_of(rows: list[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    """Some columns of the rows, as a benchmark's file has them."""
    return [{column: row[column] for column in columns} for row in rows]


def write_answers(path: Path, texts: Mapping[str, str]) -> Path:
    """A file of answers by sample id."""
    path.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items()))
    return path


def scores(
    evalkit: Call, folder: Path, task: str, texts: Mapping[str, str], *rules: str
) -> dict[str, dict[str, float]]:
    """All values of ``evalkit score``, by rule; ``folder`` is the data root, and runs are written into it."""
    answers = write_answers(folder / "answers.jsonl", texts)
    done = evalkit(
        "score", "--tasks", task, "-p", str(answers), "--data", str(folder), "--rule", ",".join(rules),
        "--out", str(folder / "runs"), "--name", "published", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {}
    for rule in rules:
        run = folder / "runs" / ("published" if len(rules) == 1 else f"published-{rule}")
        (row,) = json.loads((run / "scores.json").read_text())["results"]
        found[rule] = row["values"]
    return found


def readings(folder: Path, task: str, split: str, rule: str, *, count: int = 0) -> dict[str, str | None]:
    """What ``rule`` reads in each answer of the run that ``scores`` wrote, by sample id."""
    run = folder / "runs" / ("published" if count == 1 else f"published-{rule}")
    lines = [json.loads(line) for line in (run / f"{task}.{split}.jsonl").read_text().splitlines()]
    return {line["id"]: line["answer"] for line in lines}
