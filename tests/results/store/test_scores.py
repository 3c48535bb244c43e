from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evalkit.data import open_data
from evalkit.jobs import Record, load_job, parse_tasks
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.scores import write_results
from evalkit.scoring import Result, score_job
from evalkit.task_groups import REFCOCO_ALL
from evalkit.types import Prediction, Response

NOWHERE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """The eight splits of the bundled data; split k answers every (k + 2)-th expression right."""
    found = []
    for every, (task, split) in enumerate(parse_tasks(["refcoco-all"]), start=2):
        job = load_job(task, split, open_data("tiny"), limit=None, seed=0)
        records = [
            Record(s, "", Response(s.id), Prediction(s.references[0] if place % every == 0 else NOWHERE))
            for place, s in enumerate(job.samples)
        ]
        found.append(score_job(job, records))
    return found


def rows_of(tmp_path: Path, results: list[Result]) -> list[dict[str, Any]]:
    return write_results(RunFolder.create(tmp_path, "run"), results, {"run": "run", "model": "m"})[0]


def test_the_eight_splits_of_refcoco_have_their_mean(tmp_path: Path, results: list[Result]) -> None:
    *splits, mean = rows_of(tmp_path, results)
    assert [f"{row['task']}/{row['split']}" for row in splits] == list(REFCOCO_ALL)
    assert (mean["task"], mean["split"], mean["metric"]) == ("refcoco-all", "mean of 8", splits[0]["metric"])
    assert mean["value"] == pytest.approx(fmean(row["value"] for row in splits))
    assert len({row["value"] for row in splits}) > 4  # the mean of different things
    assert mean["n"] == sum(row["n"] for row in splits)
    assert mean["clusters"] == len({c for result in results for c in result.clusters.values()})
    assert 0 < mean["stderr"] < max(row["stderr"] for row in splits)


def test_there_is_no_mean_of_seven(tmp_path: Path, results: list[Result]) -> None:
    assert [row["task"] for row in rows_of(tmp_path, results[1:])] == [r.job.task.name for r in results[1:]]


def test_there_is_no_mean_with_an_empty_split(tmp_path: Path, results: list[Result]) -> None:
    empty = score_job(replace(results[0].job, samples=[]), [])
    assert rows_of(tmp_path, [empty, *results[1:]])[-1]["task"] == "refcocog"


def test_means_over_other_samples_are_other_means(tmp_path: Path, results: list[Result]) -> None:
    first = results[0]
    fewer = replace(first.job, samples=first.job.samples[:10])
    records = [Record(s, "", Response(s.id), Prediction(s.references[0])) for s in fewer.samples]
    whole, part = rows_of(tmp_path / "a", results)[-1], rows_of(
        tmp_path / "b", [score_job(fewer, records), *results[1:]]
    )[-1]  # fmt: skip
    assert whole["signature"] != part["signature"]


def test_answers_from_elsewhere_do_not_say_after_how_many_exemplars() -> None:
    from evalkit.results.store.scored_run import differing

    run = "vqa_accuracy|official|protocol:lmms-eval|shots:0|n:100|v1"
    given = "vqa_accuracy|official|protocol:lmms-eval|n:100|v1"
    assert differing(run, given) == []
    assert "protocol" in differing(run, given.replace("lmms-eval", "official"))[0]
    assert "shots 0 and 4" in differing(run, run.replace("shots:0", "shots:4"))[0]
    assert differing(run, given.replace("protocol:lmms-eval|", "")) == []
