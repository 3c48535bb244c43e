"""The files that the official scorers read, of every task that has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import load_job
from evalkit.predictions import read_predictions
from evalkit.types import Answered, Prediction, Sample

FORMATS = {
    "vqav2": ("question_id", int, "answer"),
    "okvqa": ("question_id", int, "answer"),
    "textvqa": ("question_id", int, "answer"),
    "vizwiz": ("image", str, "answer"),
    "docvqa": ("questionId", int, "answer"),
    "infovqa": ("questionId", int, "answer"),
    "gqa": ("questionId", str, "prediction"),
    "coco_caption": ("image_id", int, "caption"),
    "nocaps": ("image_id", int, "caption"),
    "flickr30k": ("image_id", int, "caption"),
}
"""(key of the sample's id, its type, key of the answer), as the scorers' own code reads them."""


def test_every_task_with_official_results_is_tested() -> None:
    assert {task.name for task in registry.tasks.all() if task.has_results} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_results_hold_every_sample_in_order_and_are_read_back(name: str, official_root: Path, tmp_path: Path) -> None:
    key, kind, text = FORMATS[name]
    task = registry.tasks.get(name)
    samples = load_job(task, task.default_splits[0], open_data(str(official_root)), limit=None, seed=0).samples
    assert len(samples) > 1
    said: list[str | None] = ["Café, “2”.", None, *(f"answer {place}" for place in range(2, len(samples)))]
    content = task.results([Answered(s, Prediction(t)) for s, t in zip(samples, said, strict=True)])
    entries: list[dict[str, Any]] = json.loads(content)
    assert [set(entry) for entry in entries] == [{key, text}] * len(samples)
    assert [entry[key] for entry in entries] == [kind(s.id) for s in samples]
    expected = ["café, “2”" if name == "gqa" else "Café, “2”.", "", *said[2:]]
    assert [entry[text] for entry in entries] == expected
    (tmp_path / "results.json").write_text(content, "utf-8")
    assert [p.id for p in read_predictions(tmp_path / "results.json")] == [s.id for s in samples]
    with pytest.raises(UserError, match="was parsed as a box"):
        task.results([Answered(samples[0], Prediction((0.0, 0.0, 1.0, 1.0)))])


@pytest.mark.parametrize("name", [name for name, (_, kind, _) in FORMATS.items() if kind is int])
def test_id_that_no_official_file_can_hold_is_refused(name: str) -> None:
    task = registry.tasks.get(name)
    with pytest.raises(UserError, match="integers for ids"):
        task.results([Answered(Sample("a7", (), "", (), "a7"), Prediction("yes"))])


def test_official_gqa_script_reproduces_the_headline(official_root: Path) -> None:
    task = registry.tasks.get("gqa")
    job = load_job(task, task.default_splits[0], open_data(str(official_root)), limit=None, seed=0)
    answered = [Answered(s, Prediction(t)) for s, t in zip(job.samples, ("No.", "no", "NO...", "yes"), strict=True)]
    predicted = {entry["questionId"]: entry["prediction"] for entry in json.loads(task.results(answered))}
    official = [100.0 * (predicted[s.id] == s.references[0]) for s in job.samples]  # eval.py: answer == gold
    scores = registry.metrics.get(task.metric).score(answered)
    assert sum(official) / len(official) == scores.values["accuracy"] == 75.0
