from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evalkit.data import open_data
from evalkit.errors import UserError
from evalkit.jobs import Record, load_job
from evalkit.results.store.run_folder import RunFolder
from evalkit.results.store.score_row import ScoreRow
from evalkit.results.store.scores import read_scores, write_results
from evalkit.results.store.signature import Signature, unit_of
from evalkit.scoring import Result, score_job
from evalkit.task_groups import REFCOCO_ALL
from evalkit.task_names import parse_tasks
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


def rows_of(tmp_path: Path, results: list[Result]) -> list[ScoreRow]:
    return write_results(RunFolder.create(tmp_path, "run"), results, {"run": "run", "model": "m"})[0]


def test_eight_splits_of_refcoco_have_their_mean(tmp_path: Path, results: list[Result]) -> None:
    *splits, mean = rows_of(tmp_path, results)
    assert [f"{row.task}/{row.split}" for row in splits] == list(REFCOCO_ALL)
    assert (mean.task, mean.split, mean.metric) == ("refcoco-all", "mean of 8", splits[0].metric)
    assert mean.value == pytest.approx(fmean(row.value for row in splits))
    assert len({row.value for row in splits}) > 4  # the mean of different things
    assert mean.n == sum(row.n for row in splits)
    assert mean.clusters == len({c for result in results for c in result.clusters.values()})
    assert 0 < mean.stderr < max(row.stderr for row in splits)


def test_there_is_no_mean_of_seven(tmp_path: Path, results: list[Result]) -> None:
    assert [row.task for row in rows_of(tmp_path, results[1:])] == [r.job.task.name for r in results[1:]]


def test_there_is_no_mean_with_empty_split(tmp_path: Path, results: list[Result]) -> None:
    empty = score_job(replace(results[0].job, samples=[]), [])
    assert rows_of(tmp_path, [empty, *results[1:]])[-1].task == "refcocog"


def test_means_over_other_samples_are_other_means(tmp_path: Path, results: list[Result]) -> None:
    first = results[0]
    fewer = replace(first.job, samples=first.job.samples[:10])
    records = [Record(s, "", Response(s.id), Prediction(s.references[0])) for s in fewer.samples]
    whole, part = rows_of(tmp_path / "a", results)[-1], rows_of(
        tmp_path / "b", [score_job(fewer, records), *results[1:]]
    )[-1]  # fmt: skip
    assert whole.signature != part.signature


def test_number_of_shots_is_unknown_for_answers_from_file() -> None:
    def differing(first: str, second: str) -> list[str]:
        return Signature.parse(first).differences(Signature.parse(second))

    run = "vqa_accuracy|official|protocol:lmms-eval|shots:0|n:100|v1"
    given = "vqa_accuracy|official|protocol:lmms-eval|n:100|v1"
    assert differing(run, given) == []
    assert "protocol" in differing(run, given.replace("lmms-eval", "official"))[0]
    assert "shots 0 and 4" in differing(run, run.replace("shots:0", "shots:4"))[0]
    assert differing(run, given.replace("protocol:lmms-eval|", "")) == []


ROW: Mapping[str, Any] = {
    "task": "a", "split": "val", "metric": "m", "value": 1, "n": 2, "unparsed": 0, "errors": 0, "truncated": 0,
    "limited": False, "signature": "a:val|v1|m|n:2",
}  # fmt: skip


def test_row_keeps_unknown_keys_and_adds_none() -> None:
    row = ROW | {"of": "the future", "clusters": 2}
    assert ScoreRow.from_dict(row).to_dict() == row
    assert ScoreRow.from_dict(row).with_submission("x").to_dict() == row | {"submission": "x"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "high"}, "'value' of a result is 'high'"),
        ({"n": True}, "'n' of a result is True"),
        ({"signature": None}, "'signature' of a result is None"),
    ],
)
def test_corrupt_row_is_named_with_file_and_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"schema": 2, "results": [ROW, ROW | change]}))
    with pytest.raises(UserError, match=f"scores.json is corrupt .{message}.; 'evalkit rescore {tmp_path}'"):
        read_scores(file)


def test_signature_is_parsed_and_formatted() -> None:
    parsed = Signature.of("vqav2:val", 1, "abc", "protocol:official|shots:4-random", "vqa_accuracy|norm:official|v1", 9)
    text = "vqav2:val|v1|file:abc|protocol:official|shots:4-random|vqa_accuracy|norm:official|v1|n:9"
    assert (parsed.format(), Signature.parse(text)) == (text, parsed)
    assert parsed.prompting == {"protocol": "official", "shots": "4-random"}
    assert parsed.scorer.format() == "vqav2:val|v1|file:abc|vqa_accuracy|norm:official|v1"


TEXT = "videomme:test|v1|protocol:official|shots:0{}|parsing:2|multiple_choice|v1|n:108"


def test_families_ways_to_sample_frames_share_a_column() -> None:
    """Each family samples frames in its own way, as each has its own prompts; scores state it."""
    first, second = (Signature.parse(TEXT.format(f"|video:{name}")) for name in ("qwen2.5-report", "qwen3-report"))
    assert first.scorer == second.scorer == Signature.parse(TEXT.format("")).scorer
    assert first.prompting == {"protocol": "official", "shots": "0", "video": "qwen2.5-report"}
    assert first.differences(second) == []


def test_sampled_and_greedy_answers_are_compared_by_force_only() -> None:
    greedy, drawn = Signature.parse(TEXT.format("")), Signature.parse(TEXT.format("|decoding:temperature=0.7,seed=0"))
    assert greedy.scorer == drawn.scorer
    assert greedy.differences(drawn) == ["the protocols differ (decoding none and temperature=0.7,seed=0)"]


@pytest.mark.parametrize(
    ("videos", "unit"), [([False, False], "image"), ([True], "video"), ([False, True], "image or video"), ([], "image")]
)
def test_intervals_say_what_they_are_clustered_by(videos: list[bool], unit: str) -> None:
    assert unit_of(Signature.parse(TEXT.format("|video:a" if video else "")) for video in videos) == unit
